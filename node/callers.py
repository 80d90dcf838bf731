"""The accounts whose requests this process has authenticated, by the credentials they sent.

Load shedding decides before a request is parsed, let alone authenticated, and must not let one
caller take the turns of others.
"""

from __future__ import annotations

from collections.abc import Hashable

MAX_CALLERS = 10_000


class Callers:
    """A bounded map of credentials to accounts; the longest unused are forgotten first.

    Credentials are stored as their hash in this process. A key that was revoked is still known
    here, which lets its owner do nothing.
    """

    def __init__(self, *, most: int = MAX_CALLERS) -> None:
        self._most = most
        self._accounts: dict[int, Hashable] = {}

    def remember(self, credentials: str, account: Hashable) -> None:
        """Store the account of an `Authorization` header that was valid."""
        key = hash(credentials)
        self._accounts.pop(key, None)
        self._accounts[key] = account
        if len(self._accounts) > self._most:
            del self._accounts[next(iter(self._accounts))]

    def find(self, credentials: str) -> Hashable | None:
        """Return the account of a header, None for one that was never valid here."""
        return self._accounts.get(hash(credentials))


CALLERS = Callers()
