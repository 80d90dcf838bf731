"""System checks of the database servers' settings; `replicas check` queries the servers too."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register

from scaling.replicas.settings_checks import Level, of_settings


@register()
def check_database_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Return the faults of the settings of database servers."""
    kinds = {Level.ERROR: Error, Level.WARNING: Warning}
    return [
        kinds[finding.level](finding.text, hint=finding.advice, id=finding.id)
        for finding in of_settings()
    ]
