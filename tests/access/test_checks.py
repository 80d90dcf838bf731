"""Settings of logins that make no sense together are said so."""

from __future__ import annotations

from typing import Any

import pytest

from access.checks import check_exposed_logins, check_logins


def ids(problems: list[Any]) -> list[str]:
    return [problem.id for problem in problems]


def test_the_defaults_are_sound() -> None:
    assert ids(check_logins(None)) == ids(check_exposed_logins(None)) == []


@pytest.mark.parametrize(("of_address", "expected"), [(4, ["access.W001"]), (5, []), (0, [])])
def test_a_limit_that_is_never_reached(settings: Any, of_address: int, expected: list[str]) -> None:
    settings.LOGIN_FAILURES, settings.LOGIN_ADDRESS_FAILURES = 5, of_address
    assert ids(check_logins(None)) == expected


def test_addresses_that_are_none(settings: Any) -> None:
    settings.FORWARDED_ALLOW_IPS = ["*", "10.0.0.0/8", "10.0.0.1/8", "proxy"]
    assert ids(check_logins(None)) == ["access.E001"] * 2


def test_what_strangers_could_use(settings: Any) -> None:
    settings.LOGIN_FAILURES = settings.LOGIN_ADDRESS_FAILURES = settings.LOGIN_USER_FAILURES = 0
    settings.FORWARDED_ALLOW_IPS = ["*"]
    assert ids(check_exposed_logins(None)) == ["access.W002", "access.W003"]
