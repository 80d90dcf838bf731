"""The statements of a turn: each does in one round trip what the models would do in several.

They are prepared (scaling/replicas/backend/prepared.py). Each is a transaction of its own, unless
one is open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import connection

from config.statements import PreparedStatement, read_statement

_SQL = Path(__file__).parent / "sql"

BEGIN = PreparedStatement(read_statement(_SQL / "begin.sql"))
STATE = PreparedStatement(read_statement(_SQL / "state.sql"))
HISTORY = PreparedStatement(read_statement(_SQL / "history.sql"))
COMPLETE = PreparedStatement(read_statement(_SQL / "complete.sql"))
CHAIN = PreparedStatement(read_statement(_SQL / "chain.sql"))


def fetch(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement at the primary."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
