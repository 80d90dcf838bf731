"""Publish the position of what was committed, so that later reads on any node show it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from psycopg_pool import PoolTimeout

from scaling.replicas.last_writes import LAST_WRITES, SHARED_SCOPE
from scaling.replicas.position import CURRENT_POSITION, Position
from scaling.replicas.read_context import current_context
from scaling.response_cache.invalidation import TRUST

logger = logging.getLogger(__name__)

# How long an answer waits for a primary that was lost after it committed: about a failover.
WAIT_SECONDS = 3.0
WAIT_STEP_SECONDS = 0.05


def mark_committed() -> None:
    """Mark the writes so far as committed.

    A command's shared writes are published at once: it has no end of a request that would do it.
    """
    context = current_context()
    if context is None or not context.wrote:
        return
    context.has_committed = True
    if context.is_admin and context.wrote_shared:
        publish_position()


def publish_position(accounts: Iterable[str] = (), *, wait_seconds: float = 0.0) -> Position | None:
    """Publish the position of the writes so far, so that later reads on any node show them.

    Call it before the writes are acknowledged. `accounts` are those whose rows a worker wrote; a
    request's own is in its context. Inside a transaction theirs is published after the commit.
    Returns the position, or None if none is published now. Costs one query and one round trip to
    Redis. A primary that was lost just after it committed has no position to read: with
    `wait_seconds` this waits for it, or for the next primary, and at last raises OperationalError,
    so that no write is acknowledged that replicas may not show; else nothing is raised.
    """
    context = current_context()
    of_others = list(accounts)
    scopes = list(of_others)
    if context is not None and context.wrote:
        scopes += [context.account] if context.account else []
        scopes += [SHARED_SCOPE] if context.wrote_shared else []
    connection = connections[DEFAULT_DB_ALIAS]
    is_possible = settings.HAS_REPLICAS and not TRUST.is_cut_off
    if not scopes or not is_possible:
        return None
    if connection.in_atomic_block:
        # A request's own writes are published at its end.
        if of_others:
            connection.on_commit(partial(publish_position, of_others))
        return None
    must_publish = bool(wait_seconds and context is not None and context.has_committed)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute(CURRENT_POSITION)
                position = Position.from_row(cursor.fetchone())
            break
        except (OperationalError, PoolTimeout) as error:
            if not must_publish or time.monotonic() >= deadline:
                logger.warning("the position of a write is unknown: %s", error)
                if must_publish:
                    raise
                return None
        connection.close()
        time.sleep(WAIT_STEP_SECONDS)
    # The wait for Redis needs no connection.
    connection.close()
    LAST_WRITES.record(scopes, position)
    if context is not None:
        context.mark_published(position)
    return position
