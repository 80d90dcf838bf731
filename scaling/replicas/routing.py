"""Route reads: choose the server of a read, for the request or job that this code runs for.

A model's attribute `read_scope` names the writes that a read of it must not miss: ACCOUNT (the rows
of an account) or SHARED (rows that staff change and all accounts read). A model without it is
always read from the primary. Reads of ACCOUNT go to a replica only in a request that changes
nothing (GET and HEAD) and in a job's chain; a request that writes reads the latest rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from django.conf import settings
from django.db import OperationalError, connections
from psycopg_pool import PoolTimeout

from config.request_setup import paused_setup
from scaling.connections import release_connections
from scaling.replicas import metrics
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY, Choice, choose
from scaling.replicas.last_writes import LAST_WRITES, SHARED_SCOPE, UNKNOWN
from scaling.replicas.position import Position, later_of
from scaling.replicas.read_context import (
    ReadContext,
    ReadTarget,
    activate,
    current_context,
    deactivate,
    read_target,
)
from scaling.replicas.read_scopes import ACCOUNT, SHARED
from scaling.replicas.topology import TOPOLOGY

if TYPE_CHECKING:
    from scaling.replicas.last_writes import _Unknown

T = TypeVar("T")

# Reasons for which a read of SHARED would go to the primary, though replicas are in rotation.
LATE = frozenset({"behind", "unknown"})
REDIS_WAIT_STEP_SECONDS = 0.05


def server_for(scope: str) -> str:
    """Return the alias of a read's server, from memory and at most one round trip to Redis."""
    if not TOPOLOGY.replicas:
        return PRIMARY
    choice = _choose(scope)
    metrics.READS.labels(choice.server, choice.reason).inc()
    if (server := TOPOLOGY.server(choice.server)) is not None:
        server.reads += 1
    if (context := current_context()) is not None:
        context.servers.add(choice.server)
        context.last_server = choice.server
        context.is_late = choice.reason == "late"
    return choice.server


def repeated_elsewhere(read: Callable[[], T]) -> T:
    """Return the result of `read`; while it fails on a replica, repeat it on another server.

    The last one is the primary. A row that a late replica lacks may be there: an empty result of a
    late replica counts as a failure.
    """
    context = current_context()
    is_new = context is None
    if context is None:
        context = ReadContext()
        activate(context)
    try:
        while True:
            try:
                found = read()
                if not found and context.is_late:
                    raise OperationalError("a late replica lacks it; the primary is unavailable")
                return found
            except (OperationalError, PoolTimeout):
                if not context.can_repeat():
                    raise
    finally:
        if is_new:
            deactivate()


def _choose(scope: str) -> Choice:
    if connections[PRIMARY].in_atomic_block:
        return Choice(PRIMARY, "transaction")
    context = current_context() or ReadContext()
    match read_target():
        case ReadTarget.PRIMARY:
            return Choice(PRIMARY, "forced")
        case ReadTarget.REPLICA:
            return _choose_ready(None, failed_replicas=context.failed_replicas)
    choice = _choose_for(context, scope)
    # Keys and chains are read from a late replica while the primary does not answer: else one
    # change of staff's that no replica has would stop all requests.
    if scope == SHARED and choice.reason in LATE and TOPOLOGY.primary.is_in_doubt:
        late = _choose_replica(context, None)
        if late.server != PRIMARY:
            choice = late._replace(reason="late")
    return choice


def _choose_for(context: ReadContext, scope: str) -> Choice:
    if context.is_admin:
        return Choice(PRIMARY, "page")
    if context.wrote or context.wrote_shared:
        return Choice(PRIMARY, "writes")
    if scope == ACCOUNT and not (context.account and context.reads_replicas):
        return Choice(PRIMARY, "latest")
    if not TOPOLOGY.has_serving_replica():
        return Choice(PRIMARY, "none")
    required = context.required_for(SHARED_SCOPE if scope == SHARED else context.account)
    if required is UNKNOWN and scope == ACCOUNT and context.position is None:
        required = _wait_for_redis(context)
    if required is UNKNOWN:
        # The caller can have seen no more than the position it sent, or its own writes.
        if context.position is None or scope == SHARED:
            return Choice(PRIMARY, "unknown")
        required = None
    must_show = later_of(required, context.position)  # type: ignore[arg-type]
    return _choose_replica(context, must_show)


def _wait_for_redis(context: ReadContext) -> Position | _Unknown | None:
    """Return the position that the account's reads must show; wait for it, or return UNKNOWN.

    While the primary is unavailable as well, no server may answer; and Redis may have failed for a
    moment only, as by one late answer. If it is unavailable for longer, no read waits for it.
    """
    required: Position | _Unknown | None = UNKNOWN
    with paused_setup():
        while required is UNKNOWN and TOPOLOGY.primary.is_unavailable and LAST_WRITES.is_recovering:
            release_connections()
            time.sleep(REDIS_WAIT_STEP_SECONDS)
            # Many may wait, and only a tick of the watcher can end it.
            if LAST_WRITES.is_trusted:
                required = context.required_for(context.account)
    return required


def _choose_replica(context: ReadContext, must_show: Position | None) -> Choice:
    choice = _choose_ready(
        must_show, preferred=context.preferred, failed_replicas=context.failed_replicas
    )
    is_last_resort = choice.server == PRIMARY and TOPOLOGY.primary.is_in_doubt
    # Each attempt may have waited for a pool; in all no request waits for two.
    is_soon = time.monotonic() - context.failed_at < settings.DATABASE_POOL["timeout"]
    if is_last_resort and context.failed_replicas and is_soon and not context.is_second_round:
        # A read that failed on a replica may have failed by one connection.
        context.is_second_round = True
        context.failed_replicas.clear()
        choice = _choose_ready(must_show)
    context.preferred = choice.server
    return choice


def _choose_ready(
    required: Position | None, *, preferred: str = "", failed_replicas: Collection[str] = ()
) -> Choice:
    """Choose a replica whose pool has a connection; grow the pool of a better one without any."""
    candidates = TOPOLOGY.candidates(pools.has_idle)
    choice = choose(
        (candidate for candidate in candidates if candidate.name not in failed_replicas),
        required,
        preferred=preferred,
        # A frozen primary's idle connections are frozen too.
        is_primary_ready=not TOPOLOGY.primary.is_in_doubt and pools.has_idle(PRIMARY),
    )
    if choice.wanted:
        pools.grow(choice.wanted)
    return choice
