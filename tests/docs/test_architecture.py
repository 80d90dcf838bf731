"""The architecture page names files that exist, and describes each path with a diagram."""

from __future__ import annotations

import re

import pytest

from tests.docs.source import PYPROJECT, modules
from tests.docs.texts import document, sections
from tests.stack_plugin import BASE_DIR

PAGE = "docs/architecture.md"
# A folder, or a file with its suffix; what begins with a slash is an address of the API.
PATH = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+\.\w+)?")
PATHS = {
    "A cached chat",
    "An uncached chat",
    "A job, from POST to webhook",
    "A read on a replica",
    "An autoscaler tick",
}


def named_paths(text: str) -> list[str]:
    """Return the paths that a text names in backticks."""
    return [name for name in re.findall(r"`([^`\n]+)`", text) if PATH.fullmatch(name)]


def steps(text: str) -> list[str]:
    """Return the numbers of the numbered steps."""
    return re.findall(r"^(\d+)\. `", text, flags=re.MULTILINE)


def test_named_paths_exist() -> None:
    found = named_paths(document(PAGE))
    assert len(found) > 100
    assert not [name for name in found if not (BASE_DIR / name).exists()]


def test_every_python_file_in_backticks_is_a_path() -> None:
    names = re.findall(r"`([^`\n]+\.(?:py|lua|sql|toml|cfg))`", document(PAGE))
    assert {name for name in names if not PATH.fullmatch(name)} == {"pyproject.toml"}


@pytest.mark.parametrize("heading", sorted(PATHS))
def test_each_path_has_a_diagram_and_its_files_in_order(heading: str) -> None:
    text = sections(document(PAGE))[heading]
    assert "```mermaid\n" in text
    numbers = steps(text)
    assert len(numbers) >= 10
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_packages_are_listed_in_the_order_of_their_layers() -> None:
    (layers,) = [
        contract["layers"]
        for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["layers"][-1] == "config"
    ]
    rows = re.findall(r"^\| `(\w+)/`", sections(document(PAGE))["Packages"], flags=re.MULTILINE)
    assert rows == layers
    assert f"{' --> '.join(layers)}\n" in document(PAGE)


def test_the_page_names_the_only_file_that_inserts_deliveries() -> None:
    insert = re.compile(r"INSERT INTO jobs_delivery\b")
    python = [BASE_DIR / path for path in modules()]
    statements = [*BASE_DIR.glob("jobs/**/*.sql"), *python]
    (path,) = [file for file in statements if insert.search(file.read_text(encoding="utf-8"))]
    text = sections(document(PAGE))["A job, from POST to webhook"]
    answer = text.partition("**Who inserts a delivery?**")[2].split("\n\n")[0]
    assert f"`{path.relative_to(BASE_DIR)}`" in answer
