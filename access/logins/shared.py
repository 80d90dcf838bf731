"""The counts of failed logins that all nodes share, in Redis.

One hash tag for all, as the three keys of a login must be on one node of a cluster, and logins are
few. Every key expires. One exists only for a password that is being, or was, checked, of which a
process does some in a second: no stranger fills the store. All functions raise RedisUnavailable.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from access.logins.verdict import LIMITS, SECONDS_PER_DAY, Attempt, Verdict
from scaling.redis_client import Script, run

if TYPE_CHECKING:
    from redis import Redis

MAX_KNOWN_ADDRESSES = 20

_HERE = Path(__file__).parent
_ADMIT = Script((_HERE / "admit.lua").read_text(encoding="utf-8"))
_END = Script((_HERE / "end.lua").read_text(encoding="utf-8"))
_TAG = "headrace:{logins}"


def admit(attempt: Attempt) -> Verdict:
    """Decide about one login; if it passes, it counts as failed until `end` says otherwise."""
    args = (
        settings.LOGIN_FAILURES,
        settings.LOGIN_ADDRESS_FAILURES,
        settings.LOGIN_USER_FAILURES,
        settings.LOGIN_WINDOW_SECONDS * 1000,
        attempt.address,
        settings.LOGIN_KNOWN_DAYS * SECONDS_PER_DAY,
    )
    return run(lambda client: _verdict(_ADMIT(client, _names(attempt), args)))


def end(attempt: Attempt, *, is_right: bool, was_known: bool) -> None:
    """Take back the count: the password was right, or it was not checked."""
    args = (
        attempt.address,
        int(is_right),
        MAX_KNOWN_ADDRESSES,
        settings.LOGIN_KNOWN_DAYS * SECONDS_PER_DAY,
        int(was_known),
    )
    run(lambda client: _END(client, _names(attempt), args))


def failures_of_user(user: str) -> tuple[int, float]:
    """Return a user's failures from all addresses, and the seconds until they are forgotten."""

    def work(client: Redis) -> tuple[int, float]:
        key = f"{_TAG}:user:{user}"
        # Redis-py's stubs allow for asynchronous clients.
        counts: Any = client.hgetall(key)
        pairs = [int(count) for field, count in counts.items() if field not in (b"all", "all")]
        return sum(pairs), _seconds(client.pttl(key))

    return run(work)


def failures_of_address(address: str) -> tuple[int, float]:
    """Return the same for an address."""

    def work(client: Redis) -> tuple[int, float]:
        key = f"{_TAG}:address:{address}"
        found: Any = client.get(key)
        return int(found or 0), _seconds(client.pttl(key))

    return run(work)


def forget(*, user: str | None = None, address: str | None = None) -> bool:
    """Forget the failures of a user, of an address, or of both; return whether there were any."""
    keys = [f"{_TAG}:user:{user}"] if user else []
    keys += [f"{_TAG}:address:{address}"] if address else []
    return bool(run(lambda client: client.delete(*keys)))


def _names(attempt: Attempt) -> tuple[str, str, str]:
    return (
        f"{_TAG}:user:{attempt.user}",
        f"{_TAG}:address:{attempt.address}",
        f"{_TAG}:known:{attempt.user}",
    )


def _verdict(answer: Any) -> Verdict:
    if not isinstance(answer, list) or len(answer) != 2 or answer[0] not in range(len(LIMITS)):
        raise ValueError("not an answer of the script of logins")
    refused, value = answer
    if refused:
        return Verdict(LIMITS[refused], _seconds(value))
    return Verdict(None, is_known=bool(value))


def _seconds(milliseconds: Any) -> float:
    return max(0, int(milliseconds)) / 1000
