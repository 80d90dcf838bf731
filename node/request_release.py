"""Release a request while its answer is streamed: nothing reads it any more, for minutes."""

from __future__ import annotations

from typing import Any

# What gunicorn still reads: its hook after a request, and its access log.
SERVER_NAMES = (
    *("gunicorn.socket", "REMOTE_ADDR", "REQUEST_METHOD"),
    *("RAW_URI", "SERVER_PROTOCOL", "QUERY_STRING"),
)


def release_request(environ: dict[str, Any]) -> None:
    """Empty the environment of a request, which its server holds to the end of the answer."""
    left = {name: environ[name] for name in SERVER_NAMES if name in environ}
    # A dictionary shrinks by this alone.
    environ.clear()
    environ.update(left)
