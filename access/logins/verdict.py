"""The verdict of the counts of failed logins about one more."""

from __future__ import annotations

from typing import NamedTuple

# The limits of logins, in the order of the script's answers.
LIMITS = (None, "pair", "address", "user")
SECONDS_PER_DAY = 86_400


class Attempt(NamedTuple):
    """Digests of a user name and an address, which come from a stranger and are never stored."""

    user: str
    address: str


class Verdict(NamedTuple):
    """The limit that refuses a login, if one does, and for how long.

    `is_known` is whether the user has logged in from the address before.
    """

    refused_by: str | None
    retry_after_seconds: float = 0.0
    is_known: bool = False
