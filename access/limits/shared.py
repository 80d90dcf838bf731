"""The limiter that all nodes share, in Redis.

Three keys an API key, with one hash tag, so that a Redis Cluster stores them together: the request
rate (GCRA), the tokens of the UTC day, and a sorted set of leases, one a running request. Redis's
own clock decides, every key expires by itself, and each call is one round trip. All functions
raise RedisUnavailable.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from access.limits.verdict import Verdict
from scaling.redis_client import Script, note_refusal, run
from scaling.script_batch import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from redis import Redis

    from access.principal import Limits

    # A script's keys and arguments.
    _Call = tuple[Sequence[str], Sequence[str | int]]

LEASE_SECONDS = 30

_HERE = Path(__file__).parent
_RATE = (_HERE / "rate.lua").read_text(encoding="utf-8")
_ADMIT = Script(_RATE + (_HERE / "admit.lua").read_text(encoding="utf-8"))
_HITS = Script(_RATE + (_HERE / "hits.lua").read_text(encoding="utf-8"))
_FINISH = Script((_HERE / "finish.lua").read_text(encoding="utf-8"))
_RESERVE = Script((_HERE / "reserve.lua").read_text(encoding="utf-8"))
_RENEW = Script((_HERE / "renew.lua").read_text(encoding="utf-8"))
_REFUSED_BY = (None, "requests_per_minute", "tokens_per_day", "max_concurrent")


def admit(*, key_id: UUID, limits: Limits, lease: str) -> Verdict:
    """Decide about one request; if it passes, count it and take its lease."""
    rate, tokens, leases = _names(key_id)
    args = (
        limits.requests_per_minute,
        limits.tokens_per_day,
        limits.max_concurrent,
        lease,
        LEASE_SECONDS * 1000,
    )
    return BATCH.call(_ADMIT, (rate, tokens, leases), args, _verdict)


def finish(*, key_id: UUID, lease: str, tokens: int) -> None:
    """Release the lease, unless it is the empty string, and count the tokens."""
    _, used, leases = _names(key_id)
    BATCH.call(_FINISH, (used, leases), (lease, tokens), lambda _: None)


def reserve(
    *, key_id: UUID, tokens_per_day: int, name: str, seconds: int, waits_for_others: bool
) -> tuple[int, float]:
    """Reserve the tokens at the end of a name; return 0, or 1 or 2 for refused, and the wait."""
    _, used, _ = _names(key_id)
    tokens = name.rpartition(":")[2]
    args = (tokens_per_day, name, tokens, seconds * 1000, int(waits_for_others))
    return BATCH.call(_RESERVE, (used, _calls(key_id)), args, _reserved)


def finish_call(*, key_id: UUID, name: str, tokens: int) -> None:
    """End a reservation, and count the tokens that its call used."""
    _, used, _ = _names(key_id)
    BATCH.call(_FINISH, (used, _calls(key_id)), (name, tokens), lambda _: None)


def renew(leases_by_key: Mapping[UUID, Sequence[str]]) -> None:
    """Prolong the leases of running requests, all in one round trip."""

    calls: list[_Call] = [
        ((_names(key_id)[2],), (LEASE_SECONDS * 1000, *leases))
        for key_id, leases in leases_by_key.items()
    ]

    def work(client: Redis) -> None:
        for answer in _call_all(client, _RENEW, calls):
            if isinstance(answer, Exception):
                raise answer

    run(work)


def report(hits: Sequence[tuple[UUID, Limits, int]]) -> list[Verdict | None]:
    """Count hits that have passed, all in one round trip, and return the state of each key.

    None for a key that Redis refuses to count (out of memory, a value of another type).
    """
    calls: list[_Call] = [
        (_names(key_id)[:2], (limits.requests_per_minute, limits.tokens_per_day, count))
        for key_id, limits, count in hits
    ]

    def work(client: Redis) -> list[Verdict | None]:
        return [_reported(answer) for answer in _call_all(client, _HITS, calls)]

    return run(work)


def ping() -> None:
    """Raise RedisUnavailable unless Redis answers."""
    run(lambda client: client.ping())


def _call_all(client: Redis, script: Script, calls: Sequence[_Call]) -> list[Any]:
    def send() -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for keys, args in calls:
            script.queue(pipeline, keys, args)
        return pipeline.execute(raise_on_error=False)

    answers = send()
    # One server for all: it has the script, or has run none of these calls.
    if any(isinstance(answer, NoScriptError) for answer in answers):
        client.script_load(script.text)
        answers = send()
    return answers


def _reported(answer: Any) -> Verdict | None:
    if isinstance(answer, ResponseError):
        note_refusal(answer)
        return None
    if isinstance(answer, Exception):
        raise answer
    return _verdict(answer)


def _names(key_id: UUID) -> tuple[str, str, str]:
    tag = f"headrace:limits:{{{key_id.hex}}}:"
    return f"{tag}rate", f"{tag}tokens", f"{tag}leases"


def _calls(key_id: UUID) -> str:
    return f"headrace:limits:{{{key_id.hex}}}:calls"


def _reserved(answer: Any) -> tuple[int, float]:
    if not isinstance(answer, list) or not all(isinstance(part, int) for part in answer):
        raise ValueError("not an answer of the limiter's script")
    refused, wait = answer
    return refused, wait / 1e6


def _verdict(answer: Any) -> Verdict:
    # Six integers, or the server at the other end did not run this script.
    if not isinstance(answer, list) or not all(isinstance(part, int) for part in answer):
        raise ValueError("not an answer of the limiter's script")
    refused, wait, remaining, reset, used, day_left = answer
    if not 0 <= refused < len(_REFUSED_BY):
        raise ValueError("not an answer of the limiter's script")
    return Verdict(_REFUSED_BY[refused], wait / 1e6, remaining, reset / 1e6, used, day_left / 1e6)
