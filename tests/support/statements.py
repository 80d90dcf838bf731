"""The statement that psycopg sent last."""

from __future__ import annotations

from typing import Any


def sent_by(cursor: Any) -> bytes:
    """Return the text that the server got, with placeholders or quoted values."""
    # psycopg has no public way to see it, and the server's log would need a stack of its own.
    query: bytes = cursor.cursor._query.query  # noqa: SLF001
    return query
