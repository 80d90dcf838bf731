"""Read SQL statements from their files."""

from __future__ import annotations

import re
from pathlib import Path

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


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
