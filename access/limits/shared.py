"""The limiter that all nodes share, in Redis.

Three keys an API key, with one hash tag, so that a Redis Cluster keeps them together: the request
rate (GCRA), the tokens of the UTC day, and a sorted set of leases, one a running request. Redis's
own clock decides, every key expires by itself, and each call is one round trip. All functions
raise RedisUnavailable.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from access.limits.verdict import Verdict
from scaling.redis import Script, run
from scaling.script_batch import ScriptBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from redis import Redis

    from access.principal import Limits

LEASE_SECONDS = 30

_HERE = Path(__file__).parent
_ADMIT = Script((_HERE / "admit.lua").read_text(encoding="utf-8"))
_FINISH = Script((_HERE / "finish.lua").read_text(encoding="utf-8"))
_RENEW = Script((_HERE / "renew.lua").read_text(encoding="utf-8"))
_batch = ScriptBatch()
_REFUSED_BY = (None, "requests_per_minute", "tokens_per_day", "max_concurrent")


def admit(*, key_id: UUID, limits: Limits, lease: str) -> Verdict:
    """Decide about one request; if it passes, it is counted and its lease taken."""
    rate, tokens, leases = _names(key_id)
    args = (
        limits.requests_per_minute,
        limits.tokens_per_day,
        limits.max_concurrent,
        lease,
        LEASE_SECONDS * 1000,
    )
    return _batch.call(_ADMIT, (rate, tokens, leases), args, _verdict)


def finish(*, key_id: UUID, lease: str, tokens: int) -> None:
    """Release the lease, unless it is the empty string, and count the tokens."""
    _, used, leases = _names(key_id)
    _batch.call(_FINISH, (used, leases), (lease, tokens), lambda _: None)


def renew(leases_by_key: Mapping[UUID, Sequence[str]]) -> None:
    """Prolong the leases of running requests, all in one round trip."""

    def call(client: Redis) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for key_id, leases in leases_by_key.items():
            pipeline.evalsha(_RENEW.sha, 1, _names(key_id)[2], LEASE_SECONDS * 1000, *leases)
        return pipeline.execute(raise_on_error=False)

    def work(client: Redis) -> None:
        answers = call(client)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            client.script_load(_RENEW.text)
            answers = call(client)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer

    run(work)


def _names(key_id: UUID) -> tuple[str, str, str]:
    tag = f"headrace:limits:{{{key_id.hex}}}:"
    return f"{tag}rate", f"{tag}tokens", f"{tag}leases"


def _verdict(answer: Any) -> Verdict:
    # Whatever speaks at the other end: six whole numbers, or it is no limiter of ours.
    if not isinstance(answer, list) or not all(isinstance(part, int) for part in answer):
        raise ValueError("not an answer of the limiter's script")
    refused, wait, remaining, reset, used, day_left = answer
    if not 0 <= refused < len(_REFUSED_BY):
        raise ValueError("not an answer of the limiter's script")
    return Verdict(_REFUSED_BY[refused], wait / 1e6, remaining, reset / 1e6, used, day_left / 1e6)
