from __future__ import annotations

from pathlib import Path

import pytest

import config
from config.statements import read_statement

ROOT = Path(config.__file__).parent.parent


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_comments_are_left_out_and_parameters_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sql", "-- why\nSELECT %(one)s\n  -- between\nFROM t\n")
    assert read_statement(path) == "SELECT %(one)s\nFROM t"


def test_a_placeholder_is_replaced_by_its_fragment(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sql", "SELECT '{}', {column} FROM t ORDER BY {column}")
    assert read_statement(path, column="a") == "SELECT '{}', a FROM t ORDER BY a"


@pytest.mark.parametrize("fragments", [{}, {"other": "a"}, {"column": "a", "other": "b"}])
def test_fragments_must_be_those_of_the_file(tmp_path: Path, fragments: dict[str, str]) -> None:
    path = written(tmp_path / "a.sql", "SELECT {column} FROM t")
    with pytest.raises(ValueError, match=r"a\.sql has the placeholders"):
        read_statement(path, **fragments)


def test_every_file_of_sql_is_read_by_a_module() -> None:
    paths = [path for package in ("chat", "jobs") for path in (ROOT / package).rglob("*.sql")]
    assert paths
    for path in paths:
        modules = path.parent.parent.glob("*.py")
        assert any(f'"{path.name}"' in module.read_text() for module in modules), path
