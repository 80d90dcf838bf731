"""The cursor of all connections, for prepared statements and for long values."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from django.db.backends.postgresql import base
from psycopg._cursor_base import BaseCursor
from psycopg._preparing import Prepare
from psycopg._queries import PostgresQuery

from config.statements import PreparedStatement
from scaling.replicas.backend.json_values import LONG, LongJson
from scaling.replicas.backend.prepared import PreparedQuery, prepares

# Django's statements with long values, whose parameters get their types from the columns.
INSERT, VALUES = "INSERT INTO ", " VALUES ("
UPDATE = 'UPDATE "'
# A parameter of a statement in a file: its type may be known from a cast alone.
_UNTYPED = re.compile(r"%\(\w+\)s(?!::)")

# django-stubs leaves out private classes.
_Cursor: Any = base.Cursor


class Cursor(_Cursor):  # type: ignore[misc]
    """Django's, which quotes all values and writes them into the statement, with two exceptions.

    A long value that is written is sent as it is, which spares quoting it, and libpq a copy. The
    server must then find out the types of the parameters, as it does in an INSERT and an UPDATE of
    Django's, and in a statement that casts each of its parameters.

    A PreparedStatement is prepared, where the connection prepares statements.
    """

    def _convert_query(self, query: Any, params: Any = None) -> Any:
        converted: PostgresQuery
        if isinstance(query, PreparedStatement) and prepares(self._conn):
            converted = PreparedQuery(self._tx)
        elif _has_long_value(query, params):
            converted = PostgresQuery(self._tx)
        else:
            return super()._convert_query(query, params)
        converted.convert(query, params)
        return converted

    def _get_prepared(
        self, pgq: PostgresQuery, prepare: bool | None = None
    ) -> tuple[Prepare, bytes]:
        if type(pgq) is PreparedQuery:
            return BaseCursor._get_prepared(self, pgq, prepare)
        found: tuple[Prepare, bytes] = super()._get_prepared(pgq, prepare)
        return found

    def _send_query_prepared(self, name: bytes, pgq: PostgresQuery, **options: Any) -> None:
        # For Django's log of statements.
        self._query = pgq
        super()._send_query_prepared(name, pgq, **options)

    def _execute_send(self, query: Any, **options: Any) -> None:
        # A quoted query has a class of its own.
        if type(query) in (PostgresQuery, PreparedQuery):
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
