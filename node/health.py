"""Liveness and readiness of this node."""

from __future__ import annotations

import gc
import threading

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.http import require_safe
from psycopg_pool import PoolTimeout

from node import loop_guard
from node.draining import DRAINING
from node.memory import MEMORY, YOUNG_OBJECTS
from scaling.connections import release_connections
from scaling.replicas.backend.pools import drain_pools
from scaling.replicas.topology import TOPOLOGY

# Migrations are only ever added while a release runs; once all are there, they stay.
_is_migrated = False
_is_warm = False
_warming = threading.Lock()


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer 200 while the process can answer at all; it checks nothing else."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 if the database is available and migrated, else 503; Redis is shown, not required.

    The first 200 comes once the process is warm: WARM_UP has run. A warm process stays ready while
    the primary is unavailable and a replica is not: reads are answered, writes get 503. One that
    drains answers 503 and still serves.
    """
    if DRAINING.is_on:
        return JsonResponse({"status": "draining"}, status=503)
    checks = {"database": check_database(), "redis": _check_redis()}
    is_ready = checks["database"] == "ok"
    if is_ready:
        _warm_up()
    elif _is_warm and any(server.is_in_rotation for server in TOPOLOGY.replicas.values()):
        checks["database"] = "read only"
        is_ready = True
    body = {"status": "ok" if is_ready else "unavailable", "checks": checks}
    return JsonResponse(body, status=200 if is_ready else 503)


def check_database() -> str:
    """Return `ok`, or the reason why the database cannot be used."""
    global _is_migrated  # noqa: PLW0603  (remembered for the life of the process)
    if _is_migrated and TOPOLOGY.primary.sample is not None:
        # The watcher samples several times a second; a server that hangs must not hang this.
        return "unreachable" if TOPOLOGY.primary.is_unavailable else "ok"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _is_migrated:
            executor = MigrationExecutor(connection)
            _is_migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, PoolTimeout):
        return "unreachable"
    finally:
        release_connections()
    return "ok" if _is_migrated else "migrations pending"


def _warm_up() -> None:
    global _is_warm  # noqa: PLW0603  (remembered for the life of the process)
    with _warming:
        if _is_warm:
            return
        for path in settings.WARM_UP:
            import_string(path)()
        # The objects of now stay for the process's life. Left to the garbage collector, a full
        # collection would walk all of them again and again, in pauses that requests notice.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        MEMORY.begin(drain_pools)
        loop_guard.start()
        _is_warm = True


def _check_redis() -> str:
    # Every client library of the cache raises its own errors, and none of them matters here.
    try:
        cache.get("health")
    except Exception:
        return "unreachable"
    return "ok"
