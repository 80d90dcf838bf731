"""Read SQL statements from their files."""

from __future__ import annotations

import re
from pathlib import Path

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class PreparedStatement(str):
    """A statement that each server connection parses and plans once, where it can.

    For statements that find their rows by a unique index, whose plan is the same for all values
    and sizes of tables. Each parameter needs a cast, and each column of the result: a migration
    that changes a column's type must not change that of a plan that servers have.
    """

    __slots__ = ()


def read_statement(path: Path, **fragments: str) -> str:
    """Return the statement in a file, without the lines that are comments.

    A statement is recognised as reading or writing by its first word, so a comment must not come
    first. Values are parameters (`%(name)s`). Where several statements share a piece of SQL,
    `{name}` in the file is replaced by the fragment of that name. Raises ValueError when the file's
    placeholders are not those of `fragments`.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("--")).strip()
    names = set(_PLACEHOLDER.findall(text))
    if names != fragments.keys():
        raise ValueError(f"{path.name} has the placeholders {sorted(names)}")
    return _PLACEHOLDER.sub(lambda found: fragments[found[1]], text)
