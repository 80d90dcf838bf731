"""The chat app."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """Chains, conversations and the APIs that call them."""

    name = "chat"

    def ready(self) -> None:
        """Register the system checks and the OpenAPI extensions."""
        import chat.checks  # noqa: F401, PLC0415
        import config.schema  # noqa: F401, PLC0415
