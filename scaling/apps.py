"""The scaling app."""

from django.apps import AppConfig


class ScalingConfig(AppConfig):
    name = "scaling"

    def ready(self) -> None:
        """Register the system checks."""
        # Checks may use models, which Django has loaded only now.
        import scaling.checks  # noqa: F401, PLC0415
