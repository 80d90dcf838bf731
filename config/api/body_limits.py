"""The most bytes of a JSON body, by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from config.api.paths import MEDIA_PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def body_limit(environ: Mapping[str, Any]) -> int:
    """Return how many bytes a JSON body may have, images, sounds and files in it included."""
    most: int = settings.MAX_BODY_BYTES
    return max(most, settings.MAX_MEDIA_BODY_BYTES) if takes_media(environ) else most


def takes_media(environ: Mapping[str, Any]) -> bool:
    """Return whether a body may be as large as MAX_MEDIA_BODY_BYTES.

    Only one whose length is known before it is read: in chunks or compressed it may not.
    """
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ["PATH_INFO"] in MEDIA_PATHS
        and "HTTP_TRANSFER_ENCODING" not in environ
        and environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() in ("", "identity")
    )


def body_length(environ: Mapping[str, Any]) -> int:
    """Return a body's `Content-Length`, 0 where there is none."""
    length = environ.get("CONTENT_LENGTH") or ""
    # So many digits as every number has that is compared with it.
    return int(length[:18]) if length.isascii() and length.isdecimal() else 0
