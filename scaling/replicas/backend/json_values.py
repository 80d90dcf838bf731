"""JSON values of megabytes on their way to PostgreSQL.

Django writes them with Python's json, which makes twelve bytes of an emoji. The client side then
quotes each backslash and each byte, which together hold the event loop for ten times as long as
orjson's plain UTF-8.
"""

from __future__ import annotations

from typing import Any

import orjson
from django.db.backends.postgresql import operations
from psycopg.types.json import Jsonb

# Values that Python's json refuses, or writes in its own way, are left to it.
OPTIONS = (
    orjson.OPT_NON_STR_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
# Shorter texts are quoted in a few milliseconds.
LONG = 256 * 1024

# django-stubs leaves out private classes.
_Operations: Any = operations.DatabaseOperations


class LongJson(Jsonb):
    """A JSON value whose text is long; see scaling.replicas.backend.cursors."""


class DatabaseOperations(_Operations):  # type: ignore[misc]
    """Django's own, with another writer of JSON."""

    def adapt_json_value(self, value: Any, encoder: Any) -> Jsonb:
        """Return a parameter of a statement."""
        by_django: Jsonb = super().adapt_json_value(value, encoder)
        if encoder is not None:
            return by_django
        text = dumps(value, by=by_django.dumps)
        kind = LongJson if len(text) > LONG else Jsonb
        return kind(value, dumps=lambda _: text)


def dumps(value: Any, *, by: Any) -> bytes | str:
    """Return a JSON text; values that orjson refuses, as long integers, are written `by`."""
    try:
        return orjson.dumps(value, option=OPTIONS)
    except orjson.JSONEncodeError:
        text: str = by(value)
        return text
