"""What a statement writes, by its text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.apps import apps

from scaling.replicas.routing import SITE_WIDE

# What a statement begins with that writes nothing.
READING = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "SHOW", "EXPLAIN", "DECLARE")
_TARGET = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(?:\"?\w+\"?\.)?\"?(\w+)",
    re.ASCII | re.IGNORECASE,
)
# In these the word is no statement.
_NO_TABLES = frozenset({"of", "set", "skip", "nowait"})


def is_write(sql: Any) -> bool:
    """Return whether a statement may write; what is no plain text may."""
    return not (isinstance(sql, str) and sql.lstrip().startswith(READING))


def is_site_write(sql: Any) -> bool:
    """Return whether a statement that writes may change what everybody reads.

    That is by the tables it writes to, of which one with several parts has several. Of a statement
    of any other kind, such as TRUNCATE, every table that it names counts.
    """
    if not isinstance(sql, str):
        return True
    tables = _site_tables()
    if not any(table in sql for table in tables):
        return False
    targets = {found[1].lower() for found in _TARGET.finditer(sql)} - _NO_TABLES
    return not tables.isdisjoint(targets) if targets else True


@cache
def _site_tables() -> frozenset[str]:
    models = apps.get_models(include_auto_created=True)
    return frozenset(
        model._meta.db_table for model in models if getattr(model, "read_scope", "") == SITE_WIDE
    )
