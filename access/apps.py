"""The access app."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"

    def ready(self) -> None:
        # drf-spectacular finds an extension only once its class exists.
        from access import schema  # noqa: F401, PLC0415
