"""The chat app."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """Chains, conversations and the APIs that call them."""

    name = "chat"

    def ready(self) -> None:
        """Register the system checks."""
        # Checks may use models, which Django has loaded only now.
        import chat.checks  # noqa: F401, PLC0415
