"""Statements of conversations are prepared on a connection that leads to one server process."""

from __future__ import annotations

import uuid

import pytest
from django.db import DataError, connection, transaction

from chat.conversations import statements
from config.statements import PreparedStatement
from scaling.replicas.backend.prepared import prepares

pytestmark = pytest.mark.django_db


def prepared_texts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE NOT from_sql")
        return [text for (text,) in cursor.fetchall()]


def test_a_statement_is_prepared_once() -> None:
    statement = PreparedStatement("SELECT %(one)s::text || '-' || %(two)s::text AS joined")
    assert prepares(connection.connection) or connection.ensure_connection() is None
    for number in range(3):
        rows = statements.fetch(statement, one=f"it's {number}", two='"%"')
        assert rows == [(f'it\'s {number}-"%"',)]
    assert prepared_texts().count("SELECT $1::text || '-' || $2::text AS joined") == 1


def test_others_are_not_prepared() -> None:
    before = prepared_texts()
    with connection.cursor() as cursor:
        for _ in range(8):
            cursor.execute("SELECT %s::int + 1", [1])
            cursor.execute("SELECT %(long)s::text", {"long": "x" * 100_000})
    assert prepared_texts() == before


def test_it_is_found_again_after_an_error_and_a_rollback() -> None:
    ids = {"conversation": uuid.uuid4(), "account": uuid.uuid4()}
    assert statements.fetch(statements.CHAIN, **ids) == []
    failing = PreparedStatement("SELECT 1 / %(by)s::int")
    with pytest.raises(DataError, match="division by zero"), transaction.atomic():
        statements.fetch(failing, by=0)
    assert statements.fetch(failing, by=1) == [(1,)]
    assert statements.fetch(statements.CHAIN, **ids) == []


@pytest.mark.parametrize(
    "statement",
    [statements.BEGIN, statements.STATE, statements.HISTORY, statements.COMPLETE, statements.CHAIN],
)
def test_a_change_of_a_columns_type_changes_no_result(statement: str) -> None:
    # Each column of the result has a cast, or is an expression of a fixed type.
    columns = statement.rsplit("RETURNING", 1)[-1].strip().splitlines()[0].removeprefix("SELECT ")
    assert "::" in columns or "IS NULL" in columns
