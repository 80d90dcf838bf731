"""The documents as sections and rows of tables."""

from __future__ import annotations

import re

from tests.stack_plugin import BASE_DIR


def document(name: str) -> str:
    """Return a file's text."""
    return (BASE_DIR / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Return the text below each heading, subsections apart; a heading comes once."""
    parts = re.split(r"^#{1,6} +(.+)$", text, flags=re.MULTILINE)
    assert len(set(parts[1::2])) == len(parts[1::2]), "a heading comes twice"
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(text: str) -> list[list[str]]:
    """Return the cells of the table rows whose first cell is a name in backticks."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def bare(cell: str) -> str:
    """Return the name that a cell begins with."""
    return cell.split("`")[1]


def unique(names: list[str]) -> set[str]:
    """Return the names as a set; none may come twice."""
    assert len(set(names)) == len(names), (
        f"twice: {sorted({n for n in names if names.count(n) > 1})}"
    )
    return set(names)
