"""The cursor of all connections: long values are sent apart from their statement, not inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.backends.postgresql import base
from psycopg._cursor_base import BaseCursor
from psycopg._queries import PostgresQuery

from scaling.replicas.backend.json_values import LONG, LongJson

# Statements with long values, whose parameters get their types from the columns.
INSERT, VALUES = "INSERT INTO ", " VALUES ("

# django-stubs leaves out private classes.
_Cursor: Any = base.Cursor


class Cursor(_Cursor):  # type: ignore[misc]
    """Django's, which quotes all values and writes them into the statement, with one exception.

    A long value of an INSERT is sent as it is, which spares quoting it, and libpq a copy.
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


def _has_long_value(query: Any, params: Any) -> bool:
    if not params or isinstance(params, Mapping) or not isinstance(query, str):
        return False
    if not query.startswith(INSERT) or VALUES not in query:
        return False
    return any(
        isinstance(value, LongJson) or (isinstance(value, str | bytes) and len(value) > LONG)
        for value in params
    )
