"""CONTRIBUTING's tables of packages are those of the tree and of the import contract."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tests.docs.source import PYPROJECT
from tests.docs.texts import bare, document, sections
from tests.stack_plugin import BASE_DIR

CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]
ROOTS: list[str] = PYPROJECT["tool"]["importlinter"]["root_packages"]
# Packages that Django or its applications look for by their names.
DJANGO = {"management", "migrations", "templatetags"}


def table(columns: int) -> dict[str, list[str]]:
    """Return the rows of the table with so many columns, by folder."""
    text = sections(document("CONTRIBUTING.md"))["Packages"]
    rows = [line[1:-1].split(" |") for line in text.splitlines() if line.startswith("| `")]
    return {bare(row[0]).rstrip("/"): row[1:] for row in rows if len(row) == columns}


def folders(path: Path) -> list[Path]:
    """Return the folders in a folder that git does not ignore."""
    ignored = [line.strip("/") for line in document(".gitignore").splitlines()]
    return [
        child
        for child in path.iterdir()
        if child.is_dir() and not any(fnmatch(child.name, each) for each in [".*", *ignored])
    ]


def layers() -> dict[str, list[str]]:
    """Return what each package may import, by the contract about all of them."""
    (contract,) = (each for each in CONTRACTS if set(each.get("layers", ())) == set(ROOTS))
    names: list[str] = contract["layers"]
    return {name: names[number:] for number, name in enumerate(names, 1)}


def test_the_table_has_every_top_level_folder() -> None:
    assert set(table(3)) == {path.name for path in folders(BASE_DIR)}


def test_every_python_package_is_held_by_the_import_contract_or_is_a_tool() -> None:
    packages = {path.name for path in folders(BASE_DIR) if (path / "__init__.py").exists()}
    assert packages - {"loadtest", "tests"} == set(ROOTS)


def test_the_table_has_the_imports_of_the_contract() -> None:
    rows = [(name, row[1].split(";")[0].strip()) for name, row in table(3).items()]
    expected = [(name, ", ".join(below) or "none") for name, below in layers().items()]
    assert rows[: len(expected)] == expected


def test_the_table_names_the_modules_that_the_contract_leaves_out() -> None:
    (contract,) = (each for each in CONTRACTS if set(each.get("layers", ())) == set(ROOTS))
    assert contract["ignore_imports"]
    for exception in contract["ignore_imports"]:
        package, module = exception.split(" -> ")[0].split(".", 1)
        assert f"`{module.replace('.', '/')}.py`" in table(3)[package][1]


def test_the_table_has_every_subpackage() -> None:
    found = {
        f"{root}/{path.name}"
        for root in ROOTS
        for path in folders(BASE_DIR / root)
        if (path / "__init__.py").exists() and path.name not in DJANGO
    }
    assert set(table(2)) == found
    assert all(row[0].strip() for row in table(2).values())


def test_the_image_has_every_package() -> None:
    copied = {line.split()[1] for line in document("Dockerfile").splitlines() if "COPY " in line}
    allowed = {line.removeprefix("!") for line in document(".dockerignore").splitlines()}
    assert set(ROOTS) <= copied
    assert set(ROOTS) <= allowed
