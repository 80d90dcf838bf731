"""System checks of the documents' settings."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_upload_room(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Find limits by which the largest file could never come in."""
    return [
        Error(
            f"{name} ({room}) has no room for a form with a file of JOB_MAX_FILE_BYTES"
            f" ({settings.MAX_UPLOAD_BYTES} with its other fields).",
            hint=f"Raise {name}.",
            id="jobs.E001",
        )
        for name in ("UPLOAD_ACCOUNT_BYTES", "UPLOAD_BYTES")
        if (room := getattr(settings, name)) < settings.MAX_UPLOAD_BYTES
    ]
