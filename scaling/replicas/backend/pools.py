"""The pools of this process, one for each server, and the connections that are open."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import psycopg
from django.conf import settings
from django.db import connections
from django.db.backends.postgresql import base
from greenlet import getcurrent, greenlet
from psycopg_pool import ConnectionPool

from scaling.replicas import metrics

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

RUN_OUT_STEP_SECONDS = 0.1

# django-stubs leaves out private classes.
_Wrapper: Any = base.DatabaseWrapper

# By greenlet, and only of those that hold one: a local of each that looks here would take a
# kilobyte of every waiting stream.
_held: weakref.WeakKeyDictionary[greenlet, list[BaseDatabaseWrapper]] = weakref.WeakKeyDictionary()
_open: dict[str, weakref.WeakSet[psycopg.Connection[Any]]] = {}


def held_here() -> list[BaseDatabaseWrapper]:
    """Return this greenlet's connections that are open."""
    return list(_held.get(getcurrent(), ()))


def note_taken(wrapper: BaseDatabaseWrapper, connection: psycopg.Connection[Any]) -> None:
    """Record that this greenlet holds a connection."""
    _open.setdefault(wrapper.alias, weakref.WeakSet()).add(connection)
    _held.setdefault(getcurrent(), []).append(wrapper)


def note_returned(wrapper: BaseDatabaseWrapper) -> None:
    """Record that this greenlet holds a connection no more."""
    held = _held.get(getcurrent())
    if held and wrapper in held:
        held.remove(wrapper)
        if not held:
            del _held[getcurrent()]


def has_idle(alias: str) -> bool:
    """Return whether this greenlet can take a connection to a server without a wait."""
    if any(wrapper.alias == alias for wrapper in _held.get(getcurrent(), ())):
        return True
    if not _is_pooled(alias):
        return True
    pool: ConnectionPool | None = _Wrapper._connection_pools.get(alias)
    return pool is not None and pool.get_stats()["pool_available"] > 0


def grow(alias: str) -> None:
    """Make a pool open one connection more, unless one is being opened; never waits."""
    if not _is_pooled(alias):
        return
    wrapper: Any = connections.create_connection(alias)
    # Makes the pool where there is none.
    pool: ConnectionPool = wrapper.pool
    pool.open()
    if not pool.get_stats()["requests_waiting"]:
        threading.Thread(target=_fetch, args=(pool,), name=f"grow-{alias}", daemon=True).start()


def warm(alias: str) -> None:
    """Open a pool, and make its first connection, before the first read waits for it."""
    pool: ConnectionPool | None = _Wrapper._connection_pools.get(alias)
    if pool is None or not pool.get_stats()["pool_size"]:
        grow(alias)


def close_pool(alias: str) -> None:
    """Drop the pool of a server; connections in use are closed when they come back."""
    pool: ConnectionPool | None = _Wrapper._connection_pools.pop(alias, None)
    if pool is not None:
        pool.close(timeout=0)


def renew_pool(alias: str) -> None:
    """Replace a pool for new requests; those that wait for the old one may still get served."""
    pool: ConnectionPool | None = _Wrapper._connection_pools.pop(alias, None)
    if pool is not None:
        threading.Thread(target=_run_out, args=(pool,), name=f"end-{alias}", daemon=True).start()


def drain_pools() -> None:
    """Replace all connections, those in use when they come back.

    libpq's buffers grow with the longest value that went through them, and never shrink.
    """
    for pool in list(_Wrapper._connection_pools.values()):
        pool.drain()


def abort_connections(alias: str) -> None:
    """End all connections to a server that no longer answers; waits raise OperationalError."""
    open_ones = list(_open.get(alias, ()))
    metrics.CONNECTIONS_CUT.labels(alias).inc(sum(map(shut_down, open_ones)))


def shut_down(connection: psycopg.Connection[Any]) -> bool:
    """End a connection that another greenlet waits on; return whether it was open."""
    with contextlib.suppress(OSError, psycopg.Error):
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
        return True
    return False


def _is_pooled(alias: str) -> bool:
    entry = connections.settings.get(alias)
    return entry is not None and bool(entry["OPTIONS"].get("pool"))


def _fetch(pool: ConnectionPool) -> None:
    # The pool grows only for waiting requests.
    with contextlib.suppress(psycopg.Error):
        pool.putconn(pool.getconn(timeout=settings.DATABASE_POOL["timeout"]))


def _run_out(pool: ConnectionPool) -> None:
    until = time.monotonic() + pool.timeout
    while pool.get_stats()["requests_waiting"] and time.monotonic() < until:
        time.sleep(RUN_OUT_STEP_SECONDS)
    pool.close(timeout=0)
