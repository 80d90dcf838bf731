"""Policies: which answers are cached, for whom, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CacheMode(StrEnum):
    """Which requests of a chain or a view are cached."""

    OFF = "off"
    # Temperature 0, or a seed: the client wants the same answer each time.
    DETERMINISTIC = "deterministic"
    ALWAYS = "always"


class CacheScope(StrEnum):
    """The accounts that get a cached answer: that of the first request, or all."""

    ACCOUNT = "account"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """The cache policy that a chain or a view declares; times in seconds.

    After `ttl_seconds` an answer may be served for `stale_seconds` while one request revalidates
    it, and for `stale_if_error_seconds` instead of a provider's failure.
    """

    mode: CacheMode = CacheMode.OFF
    scope: CacheScope = CacheScope.ACCOUNT
    ttl_seconds: int = 3600
    stale_seconds: int = 0
    stale_if_error_seconds: int = 0

    def applies(self, *, is_deterministic: bool) -> bool:
        """Return whether a request's answer is cached."""
        if self.mode is CacheMode.DETERMINISTIC:
            return is_deterministic
        return self.mode is CacheMode.ALWAYS
