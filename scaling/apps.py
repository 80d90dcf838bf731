"""The scaling app."""

from django.apps import AppConfig


class ScalingConfig(AppConfig):
    name = "scaling"

    def ready(self) -> None:
        """Register the system checks."""
        import scaling.checks  # noqa: F401, PLC0415
