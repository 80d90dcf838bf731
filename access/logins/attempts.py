"""Admit a login, and count it if it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.utils.crypto import salted_hmac
from prometheus_client import Counter

from access.errors import PasswordsBusy, TooManyLogins
from access.logins import shared
from access.logins.local import LocalFailures
from access.logins.verdict import LIMITS, Attempt, Verdict
from node.client_address import network_of
from scaling.redis_client import RedisUnavailable

LOGINS = Counter("headrace_logins", "Login attempts, by outcome.", ["outcome"])
REFUSED = Counter(
    "headrace_logins_refused", "Logins refused before their password was checked.", ["limit"]
)
LOCAL = Counter(
    "headrace_logins_local",
    "Logins for which Redis was unavailable and the process's own counts stood in.",
)
for _outcome in ("accepted", "failed", "busy"):
    LOGINS.labels(_outcome)
for _limit in LIMITS[1:]:
    REFUSED.labels(_limit)

DIGEST_CHARS = 32

LOCAL_FAILURES = LocalFailures()


@dataclass(kw_only=True)
class Outcome:
    """The outcome of a login; its caller sets `is_right`."""

    is_right: bool = False


@contextmanager
def counted(*, user: str, address: str) -> Iterator[Outcome]:
    """Run one check of a password; raises TooManyLogins before it.

    The login is counted before the check and uncounted after it, so that guesses at the same time
    count too. One that ends without a verdict, as when the threads are busy, does not count.
    """
    attempt = Attempt(user=digest_of(user), address=digest_of(address))
    verdict = _admit(attempt)
    if verdict.refused_by is not None:
        REFUSED.labels(verdict.refused_by).inc()
        raise TooManyLogins(retry_after_seconds=verdict.retry_after_seconds)
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        if isinstance(error, PasswordsBusy):
            LOGINS.labels("busy").inc()
        _end(attempt, verdict, is_right=False)
        raise
    if outcome.is_right:
        LOGINS.labels("accepted").inc()
        _end(attempt, verdict, is_right=True)
    else:
        LOGINS.labels("failed").inc()


def failures(
    *, user: str | None = None, address: str | None = None
) -> dict[str, tuple[int, float]]:
    """Return failures, and the seconds until they are forgotten; raises RedisUnavailable."""
    found = {}
    if user is not None:
        found["user"] = shared.failures_of_user(digest_of(user))
    if address is not None:
        found["address"] = shared.failures_of_address(digest_of(network_of(address)))
    return found


def unlock(*, user: str | None = None, address: str | None = None) -> bool:
    """Forget failures; return whether there were any. Raises RedisUnavailable."""
    return shared.forget(
        user=None if user is None else digest_of(user),
        address=None if address is None else digest_of(network_of(address)),
    )


def digest_of(text: str) -> str:
    """Return the digest of a user's name or an address: of one length, and unreadable."""
    data = text.encode(errors="surrogatepass")
    return salted_hmac("access.logins", data, algorithm="sha256").hexdigest()[:DIGEST_CHARS]


def _admit(attempt: Attempt) -> Verdict:
    try:
        return shared.admit(attempt)
    except RedisUnavailable:
        LOCAL.inc()
        return LOCAL_FAILURES.admit(attempt)


def _end(attempt: Attempt, verdict: Verdict, *, is_right: bool) -> None:
    try:
        shared.end(attempt, is_right=is_right, was_known=verdict.is_known)
    except RedisUnavailable:
        LOCAL_FAILURES.end(attempt)
