"""The jobs app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Durable background jobs, and their notifications."""

    name = "jobs"

    def ready(self) -> None:
        """Register the system checks."""
        # Checks may use models, which Django has loaded only now.
        import jobs.documents.checks  # noqa: PLC0415
        import jobs.notifications.checks  # noqa: F401, PLC0415
