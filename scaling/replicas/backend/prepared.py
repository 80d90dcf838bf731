"""Statements that a server connection parses and plans once, where it leads to one server process.

Behind a PgBouncer that pools by transaction, the next statement may go to another process, which
has it not. There the process id that a connection was given at its start is none of PostgreSQL's.
"""

from __future__ import annotations

from typing import Any

from psycopg._preparing import Prepare, PrepareManager
from psycopg._queries import PostgresQuery


class PreparedQuery(PostgresQuery):
    """A PreparedStatement with its parameters."""


class PreparedStatements(PrepareManager):
    """A connection's statements that are prepared: each PreparedStatement, at its first use.

    psycopg's own counts all statements, and holds the text of the last hundred.
    """

    prepare_threshold = 0

    def get(self, query: PostgresQuery, prepare: bool | None = None) -> tuple[Prepare, bytes]:
        """Return whether a statement is prepared, or should be, and its name."""
        return super().get(query, prepare) if type(query) is PreparedQuery else (Prepare.NO, b"")

    def maybe_add_to_cache(self, query: PostgresQuery, prep: Prepare, name: bytes) -> Any:
        """Record a statement that was prepared."""
        if type(query) is PreparedQuery:
            return super().maybe_add_to_cache(query, prep, name)
        return None


def prepare_where_direct(connection: Any, process_id: int) -> None:
    """Prepare statements on this connection if its server process is the one that it began with."""
    if connection.info.backend_pid == process_id:
        connection._prepared = PreparedStatements()


def prepares(connection: Any) -> bool:
    """Return whether a connection prepares statements."""
    return isinstance(connection._prepared, PreparedStatements)
