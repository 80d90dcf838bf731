"""The reference of errors says what the code and HAProxy answer."""

from __future__ import annotations

import ast
import json
from typing import Any

from config.api.errors import ApiError
from tests.docs.source import called, keyword, modules
from tests.docs.texts import bare, document, entries, sections, unique
from tests.stack_plugin import BASE_DIR

# Codes of REST framework's own exceptions that a client can meet, with their status.
REST_FRAMEWORK_CODES = {("method_not_allowed", 405)}


def error_classes() -> dict[str, int | None]:
    """Return ApiError and what derives from it, with the status that each class has by itself."""
    found: dict[str, int | None] = {"ApiError": None}
    classes = [
        node
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    # A base may come later than its heir in the list, so look until nothing is new.
    while heirs := [
        node
        for node in classes
        if node.name not in found and any(ast.unparse(base) in found for base in node.bases)
    ]:
        for node in heirs:
            found[node.name] = own_status(node)
    return found


def own_status(node: ast.ClassDef) -> int | None:
    """Return the status that a class hands to its base, or its parameter's default."""
    defaults: dict[str, Any] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            names, values = part.args.kwonlyargs, part.args.kw_defaults
            defaults |= {a.arg: v for a, v in zip(names, values, strict=True) if v is not None}
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and ast.unparse(part.func) == "super().__init__":
            first = part.args[0]
            status = defaults.get(first.id) if isinstance(first, ast.Name) else first
            value = status.value if isinstance(status, ast.Constant) else None
            return value if isinstance(value, int) else None
    return None


def error_codes() -> set[tuple[str, int | None]]:
    """Return every code that an ApiError is made with, and its status."""
    classes = error_classes()
    found: set[tuple[str, int | None]] = set(REST_FRAMEWORK_CODES)
    for path, tree in modules().items():
        for scope in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]:
            for call in ast.walk(scope):
                if not isinstance(call, ast.Call) or (code := keyword(call, "code")) is None:
                    continue
                if isinstance(scope, ast.ClassDef):
                    if ast.unparse(call.func) != "super().__init__" or scope.name not in classes:
                        continue
                    status = classes[scope.name]
                elif called(call) in classes:
                    status = status_of(call, classes[called(call)])
                else:
                    continue
                where = f"{path}:{call.lineno}"
                found |= {(text, status) for text in code_texts(code, where)}
    return found


def status_of(call: ast.Call, default: int | None) -> int | None:
    """Return the status that a call gives, else its class's."""
    for node in (keyword(call, "status"), *call.args[:1]):
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
    return default


def code_texts(node: ast.expr, where: str) -> set[str]:
    """Return the texts that an expression for a code may have."""
    match node:
        case ast.Constant(value=str() as text):
            return {text}
        case ast.Constant(value=None):
            return set()
        # `code if code in TABLE else "other"`
        case ast.IfExp(test=ast.Compare(comparators=[ast.Name(id=table)]), orelse=other):
            return {key.value for key in table_of(table).keys} | code_texts(other, where)  # type: ignore[union-attr]
        case ast.Subscript(value=ast.Name(id=table)):
            return {value.value for value in table_of(table).values}  # type: ignore[attr-defined]
        # A parameter that is passed on: the caller's literal is found by itself.
        case ast.Name(id="code"):
            return set()
        # See REST_FRAMEWORK_CODES.
        case ast.Call() if ast.unparse(node) == "str(error.default_code)":
            return set()
    raise AssertionError(f"{where}: cannot tell the code in {ast.unparse(node)}")


def table_of(name: str) -> ast.Dict:
    """Return the literal dict of a module's constant."""
    for tree in modules().values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                assert isinstance(node.value, ast.Dict), name
                return node.value
    raise AssertionError(f"there is no {name}")


def error_rows(heading: str) -> list[list[str]]:
    """Return the rows of one of errors.md's tables."""
    return entries(sections(document("docs/reference/errors.md"))[heading])


def test_every_error_code_has_a_row_and_every_row_a_code() -> None:
    rows = error_rows("Codes")
    unique([f"{bare(row[0])} {row[1]}" for row in rows])
    assert {(bare(row[0]), int(row[1])) for row in rows} == error_codes()


def test_the_rows_of_errors_have_the_type() -> None:
    for row in [*error_rows("Codes"), *error_rows("HAProxy's own answers")]:
        assert bare(row[2]) == ApiError(int(row[1]), "").type, row[0]


def test_haproxys_error_pages_are_the_documented_ones() -> None:
    pages = set()
    for path in sorted((BASE_DIR / "haproxy/errors").glob("*.http")):
        # HAProxy sends the file as it is, so its line ends and its length must be right.
        head, body = path.read_bytes().replace(b"\r\n", b"\n").split(b"\n\n", 1)
        status = int(head.split()[1])
        assert status == int(path.stem)
        headers = dict(line.split(b": ", 1) for line in head.split(b"\n")[1:])
        assert int(headers[b"Content-Length"]) == len(body), path.name
        error = json.loads(body)["error"]
        assert error["type"] == ApiError(status, "").type, path.name
        retry = headers.get(b"Retry-After", b"none").decode()
        pages.add((error["code"], status, retry))
    rows = error_rows("HAProxy's own answers")
    assert {(bare(row[0]), int(row[1]), row[3]) for row in rows} == pages
