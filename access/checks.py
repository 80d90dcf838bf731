"""System checks of the settings of staff's logins."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

LIMITS = ("LOGIN_FAILURES", "LOGIN_ADDRESS_FAILURES", "LOGIN_USER_FAILURES")


@register()
def check_logins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Find limits that could never be reached, and addresses that are none."""
    problems: list[CheckMessage] = []
    pair = settings.LOGIN_FAILURES
    for name in LIMITS[1:]:
        if 0 < (limit := getattr(settings, name)) < pair:
            problems.append(
                Warning(
                    f"{name}={limit} is less than LOGIN_FAILURES={pair}, which is never reached.",
                    hint=f"Set {name} to {pair} or more, or to 0.",
                    id="access.W001",
                )
            )
    for text in settings.FORWARDED_ALLOW_IPS:
        try:
            ipaddress.ip_network("0.0.0.0/0" if text == "*" else text)
        except ValueError as error:
            problems.append(
                Error(
                    f"FORWARDED_ALLOW_IPS: {error}.",
                    hint="Give addresses such as 10.0.0.5, or networks such as 10.0.0.0/24.",
                    id="access.E001",
                )
            )
    return problems


@register(Tags.security, deploy=True)
def check_exposed_logins(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of logins that strangers may attempt without end."""
    problems: list[CheckMessage] = []
    if not any(getattr(settings, name) for name in LIMITS):
        problems.append(
            Warning(
                "Failed logins of staff are not limited.",
                hint=f"Set one of {', '.join(LIMITS)}.",
                id="access.W002",
            )
        )
    if "*" in settings.FORWARDED_ALLOW_IPS:
        problems.append(
            Warning(
                "A client that reaches a node directly can claim any address, so limits by address"
                " hold only where the proxy alone reaches nodes.",
                hint="Set FORWARDED_ALLOW_IPS to the proxy's addresses.",
                id="access.W003",
            )
        )
    return problems
