"""The access app."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"

    def ready(self) -> None:
        """Register the system checks."""
        import access.checks  # noqa: F401, PLC0415
