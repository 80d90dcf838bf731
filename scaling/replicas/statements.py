"""Classify statements by their text: which write, and which change shared rows."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.apps import apps

from scaling.replicas.read_scopes import SHARED

# A statement that begins so counts as a read. A SELECT may write, by a function or a CTE, as the
# claim of jobs does; such code publishes its position itself (publishing.publish_position).
READ_PREFIXES = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "SHOW", "EXPLAIN", "DECLARE")
_TARGET = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(?:\"?\w+\"?\.)?\"?(\w+)",
    re.ASCII | re.IGNORECASE,
)
# After these words no table follows.
_NO_TABLES = frozenset({"of", "set", "skip", "nowait"})


def is_write(sql: Any) -> bool:
    """Return whether a statement may write; one that is no plain text may."""
    return not (isinstance(sql, str) and sql.lstrip().startswith(READ_PREFIXES))


def is_shared_write(sql: Any) -> bool:
    """Return whether a statement that writes may change shared rows.

    That is by the tables it writes to, of which a statement with several parts has several. In a
    statement of any other kind, such as TRUNCATE, every table that it names counts.
    """
    if not isinstance(sql, str):
        return True
    tables = _shared_tables()
    if not any(table in sql for table in tables):
        return False
    targets = {found[1].lower() for found in _TARGET.finditer(sql)} - _NO_TABLES
    return not tables.isdisjoint(targets) if targets else True


@cache
def _shared_tables() -> frozenset[str]:
    models = apps.get_models(include_auto_created=True)
    return frozenset(
        model._meta.db_table for model in models if getattr(model, "read_scope", "") == SHARED
    )
