"""The code as syntax trees, so that what no test runs counts too."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator

from tests.stack_plugin import BASE_DIR

PYPROJECT = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["importlinter"]["root_packages"]


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return every module of the project's own packages by its path."""
    return {
        path.relative_to(BASE_DIR).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((BASE_DIR / package).rglob("*.py"))
    }


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a function of these names, with the path of its module."""
    for path, node in all_calls():
        if called(node) in names:
            yield path, node


@functools.cache
def all_calls() -> list[tuple[str, ast.Call]]:
    """Return every call with the path of its module."""
    return [
        (path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def called(call: ast.Call) -> str:
    """Return the name of what is called, without what it belongs to."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def imported(path: str, source: str) -> set[str]:
    """Return the names that a module imports from another."""
    return {
        alias.name
        for node in ast.walk(modules()[path])
        if isinstance(node, ast.ImportFrom) and node.module == source
        for alias in node.names
    }


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return a keyword argument."""
    return next((item.value for item in call.keywords if item.arg == name), None)


def text_of(node: ast.expr | None) -> str | None:
    """Return a literal text, or None for anything else."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text else None  # type: ignore[union-attr]
