"""The accounts that a process knows by the credentials of their requests."""

from __future__ import annotations

from node.callers import Callers


def test_credentials_are_known_once_they_were_valid() -> None:
    callers = Callers()
    callers.remember("Bearer a", "account")
    callers.remember("bearer  a", "account")

    assert callers.find("Bearer a") == callers.find("bearer  a") == "account"
    assert callers.find("Bearer b") is None
    assert callers.find("") is None


def test_the_longest_unused_are_forgotten_first() -> None:
    callers = Callers(most=2)
    for credentials in ("a", "b", "a", "c"):
        callers.remember(credentials, credentials)

    assert [callers.find(credentials) for credentials in "abc"] == ["a", None, "c"]
