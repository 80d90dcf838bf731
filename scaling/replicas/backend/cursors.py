"""The cursor of all connections: long values are sent apart from their statement, not inside it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from django.db.backends.postgresql import base
from psycopg._cursor_base import BaseCursor
from psycopg._queries import PostgresQuery

from scaling.replicas.backend.json_values import LONG, LongJson

# Django's statements with long values, whose parameters get their types from the columns.
INSERT, VALUES = "INSERT INTO ", " VALUES ("
UPDATE = 'UPDATE "'
# A parameter of a statement in a file: its type may be known from a cast alone.
_UNTYPED = re.compile(r"%\(\w+\)s(?!::)")

# django-stubs leaves out private classes.
_Cursor: Any = base.Cursor


class Cursor(_Cursor):  # type: ignore[misc]
    """Django's, which quotes all values and writes them into the statement, with one exception.

    A long value that is written is sent as it is, which spares quoting it, and libpq a copy. The
    server must then find out the types of the parameters, as it does in an INSERT and an UPDATE of
    Django's, and in a statement that casts each of its parameters.
    """

    def _convert_query(self, query: Any, params: Any = None) -> Any:
        if not _has_long_value(query, params):
            return super()._convert_query(query, params)
        converted = PostgresQuery(self._tx)
        converted.convert(query, params)
        return converted

    def _execute_send(self, query: Any, **options: Any) -> None:
        # A quoted query has a class of its own.
        if type(query) is PostgresQuery:
            BaseCursor._execute_send(self, query, **options)
        else:
            super()._execute_send(query, **options)


@functools.lru_cache(maxsize=128)
def casts_all(statement: str) -> bool:
    """Return whether each named parameter of a statement has a cast right after it."""
    return _UNTYPED.search(statement) is None


def _has_long_value(query: Any, params: Any) -> bool:
    if not params or not isinstance(query, str):
        return False
    if isinstance(params, Mapping):
        return any(map(_is_long, params.values())) and casts_all(query)
    if query.startswith(INSERT):
        return VALUES in query and any(map(_is_long, params))
    return query.startswith(UPDATE) and any(map(_is_long, params))


def _is_long(value: Any) -> bool:
    return isinstance(value, LongJson) or (isinstance(value, str | bytes) and len(value) > LONG)
