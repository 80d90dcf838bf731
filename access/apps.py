"""The access app."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"

    def ready(self) -> None:
        """Register the system checks."""
        # Checks may use models, which Django has loaded only now.
        import access.checks  # noqa: F401, PLC0415
