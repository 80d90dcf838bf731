"""System checks of the notifications' settings."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register


@register(Tags.security, deploy=True)
def check_private_webhooks(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of webhooks that may reach the own network."""
    if settings.DEBUG or not settings.WEBHOOK_ALLOW_PRIVATE:
        return []
    return [
        Warning(
            "Webhooks may be sent to private addresses, so clients can reach services of this"
            " network through Headrace.",
            hint="Unset WEBHOOK_ALLOW_PRIVATE.",
            id="jobs.W001",
        )
    ]
