"""Links lead somewhere, packages are pinned, and every module says what it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.docs.source import modules
from tests.stack_plugin import BASE_DIR


def documents() -> list[Path]:
    """Return every document that people read."""
    folders = (path for name in ("docs", "tests") for path in (BASE_DIR / name).rglob("*.md"))
    own = (path for path in folders if "node_modules" not in path.parts)
    return [*sorted(BASE_DIR.glob("*.md")), *sorted(own)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#{1,6} +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_that_exist() -> None:
    broken = []
    for path in documents():
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if re.match(r"\w+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.relative_to(BASE_DIR)}: {link}")
    assert not broken


def locks() -> list[Path]:
    """Return the files of pinned packages."""
    return [*sorted(BASE_DIR.glob("requirements/*.txt")), *sorted(BASE_DIR.glob("loadtest/*.txt"))]


def test_no_file_names_a_package_index() -> None:
    wanted = [*BASE_DIR.glob("requirements/*.in"), *BASE_DIR.glob("loadtest/*.in")]
    for path in [*locks(), *wanted, BASE_DIR / "pyproject.toml", BASE_DIR / "Makefile"]:
        text = path.read_text(encoding="utf-8")
        assert "://" not in text, path.name
        options = r"--(extra-)?index-url|--find-links|--trusted-host|\[\[tool\.uv\.index"
        assert not re.search(options, text), path.name


def test_every_package_is_pinned_with_hashes() -> None:
    assert {path.name for path in locks()} >= {"base.txt", "embedded.txt", "dev.txt", "peers.txt"}
    for path in locks():
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
        assert lines, path.name
        for line in lines:
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ ", line), f"{path.name}: {line[:60]}"
            assert re.search(r" --hash=sha256:[0-9a-f]{64}", line), f"{path.name}: {line[:60]}"


def test_every_module_has_a_docstring() -> None:
    silent = [
        path
        for path, tree in modules().items()
        if tree.body and "/migrations/" not in path and not ast.get_docstring(tree)
    ]
    assert not silent


def decisions() -> list[Path]:
    """Return the decision records in order."""
    return sorted((BASE_DIR / "docs/adr").glob("[0-9]*.md"))


def test_every_decision_has_its_number_and_status() -> None:
    for number, path in enumerate(decisions(), 1):
        title, _, status, *_ = path.read_text(encoding="utf-8").splitlines()
        assert path.name.startswith(f"{number:04}-"), path.name
        assert title.startswith(f"# {number}. "), path.name
        assert re.match(r"Status: \w+, \d{4}-\d\d-\d\d", status), path.name


def test_the_index_of_decisions_has_each_one_with_its_title_and_status() -> None:
    rows = []
    for path in decisions():
        title, _, status, *_ = path.read_text(encoding="utf-8").splitlines()
        number, name = title.removeprefix("# ").split(". ", 1)
        status = status.removeprefix("Status: ").split(".")[0]
        rows.append(f"| {number} | [{name}]({path.name}) | {status} |")
    index = (BASE_DIR / "docs/adr/README.md").read_text(encoding="utf-8")
    assert rows == [line for line in index.splitlines() if re.match(r"\| \d", line)]
