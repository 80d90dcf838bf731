"""Every document is linked from the index."""

from __future__ import annotations

import re
from pathlib import Path

from tests.stack_plugin import BASE_DIR

DOCS = BASE_DIR / "docs"
INDEX = DOCS / "README.md"


def linked(path: Path) -> list[Path]:
    """Return the files that a document links to."""
    targets = re.findall(r"\]\(([^)#\s:]+)[^)\s]*\)", path.read_text(encoding="utf-8"))
    return [(path.parent / target).resolve() for target in targets]


def test_every_document_is_linked_from_the_index() -> None:
    reached = {INDEX.resolve(), *linked(INDEX)}
    # A folder with an index of its own is listed there.
    for path in sorted(reached):
        if path.name == INDEX.name and path.is_relative_to(DOCS.resolve()):
            reached.update(linked(path))
    files = {path.resolve() for path in DOCS.rglob("*") if path.is_file()}
    assert sorted(str(path) for path in files - reached) == []


def test_every_entry_of_the_index_has_a_description_and_comes_once() -> None:
    lines = [line for line in INDEX.read_text(encoding="utf-8").splitlines() if line[:2] == "- "]
    entries = [re.match(r"- \[[^\]]+\]\(([^)]+)\): \S.*\.$", line) for line in lines]
    assert [line for line, entry in zip(lines, entries, strict=True) if entry is None] == []
    targets = [entry[1] for entry in entries if entry is not None]
    assert len(targets) == len(set(targets))
