"""What the documents say is what the code does.

The code is read as a syntax tree, so that a setting, a metric or an error counts also where no test
runs it.
"""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import json
import os
import re
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.core.management import get_commands, load_command_class
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from prometheus_client import Counter, Gauge, Histogram

from chat.registry import ChatInput, read_chat_input
from config.errors import ApiError

BASE_DIR = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS: list[str] = PYPROJECT["tool"]["importlinter"]["root_packages"]

READERS = {"env_str", "env_int", "env_float", "env_bool", "env_list", "env_choice", "env_secret"}
# Who reads settings by names that are not literals, and why that hides none.
DYNAMIC_READERS = {
    "scaling/cluster/plan.py": "asks whether a setting that settings.py reads was given",
}
# Who touches the process's environment, and why.
ENVIRONMENT_USERS = {
    "config/env.py": "the one reader",
    "config/wsgi.py": "sets DJANGO_SETTINGS_MODULE",
    "jobs/worker.py": "sets DJANGO_SETTINGS_MODULE",
    "scaling/cluster/bring_up.py": "hands the whole environment on to a child",
}
METRIC_KINDS = {
    "Counter": Counter,
    "CounterMetricFamily": Counter,
    "Gauge": Gauge,
    "GaugeMetricFamily": Gauge,
    "Histogram": Histogram,
}
# Codes of REST framework's own exceptions that a client can meet, with their status.
REST_FRAMEWORK_CODES = {("method_not_allowed", 405)}


# --- Reading the code ---------------------------------------------------------------------------
@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return every module of the project's own packages by its path."""
    return {
        path.relative_to(BASE_DIR).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for room in ROOMS
        for path in sorted((BASE_DIR / room).rglob("*.py"))
    }


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a function of these names, with the path of its module."""
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in names:
                yield path, node


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


# --- Reading the documents ----------------------------------------------------------------------
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


# --- Settings -----------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One read of a setting; `default` is None when it is computed."""

    reader: str
    default: str | None
    values: str


def settings_read() -> dict[str, Setting]:
    """Return what the code reads from the environment."""
    found: dict[str, Setting] = {}
    for path, call in calls(READERS):
        name = text_of(call.args[0])
        if name is None:
            assert path in DYNAMIC_READERS, f"{path}:{call.lineno} hides the name of a setting"
            continue
        setting = Setting(reader=called(call), default=default_of(call), values=values_of(call))
        before = found.setdefault(name, setting)
        assert before.default == setting.default, f"{name} has two defaults"
        # One that says more about the value wins over a plain text.
        if before.reader == "env_str":
            found[name] = setting
    assert {text_of(call.args[0]) for _, call in calls({"parse_map"})} <= found.keys()
    # It says where the file with the others is, so env.py reads it before there are readers.
    assert 'os.environ.get("STATE_DIR")' in document("config/env.py")
    return {**found, "STATE_DIR": Setting(reader="env_str", default=None, values="")}


def default_of(call: ast.Call) -> str | None:
    """Return a default as one would write it into the environment; None when it is computed."""
    node = call.args[1] if len(call.args) > 1 else keyword(call, "default")
    if node is None:
        return ""
    if any(isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "default", "eval"))  # noqa: S307 - literals only
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return number(value) if isinstance(value, int | float) else str(value)


def values_of(call: ast.Call) -> str:
    """Return how a row must end that tells which values are allowed."""
    if called(call) == "env_bool":
        return "true or false"
    if called(call) == "env_choice":
        return "one of " + ", ".join(ast.literal_eval(call.args[2]))
    if called(call) not in ("env_int", "env_float"):
        return ""
    minimum = ast.literal_eval(keyword(call, "minimum") or ast.Constant(0))
    maximum = keyword(call, "maximum")
    if maximum is None:
        return f"{number(minimum)} or more"
    return f"{number(minimum)} to {number(ast.literal_eval(maximum))}"


def number(value: float) -> str:
    """Return a number without a needless fraction."""
    return str(int(value)) if value == int(value) else str(value)


def haproxy_variables() -> set[str]:
    """Return the variables that haproxy.cfg reads."""
    return set(re.findall(r"\$\{(\w+)", document("haproxy/haproxy.cfg")))


def haproxy_defaults() -> dict[str, str]:
    """Return what haproxy.cfg takes for variables that are not set."""
    lines = re.findall(r"^ +presetenv (\w+) (.+)$", document("haproxy/haproxy.cfg"), flags=re.M)
    return {name: value.strip('"') for name, value in lines}


def setting_rows() -> dict[str, list[str]]:
    """Return settings.md's rows by name."""
    rows = entries(document("docs/reference/settings.md"))
    unique([bare(row[0]) for row in rows])
    return {bare(row[0]): row for row in rows}


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    assert set(setting_rows()) == settings_read().keys() | haproxy_variables()


def test_the_rows_tell_the_defaults_and_the_allowed_values() -> None:
    rows = setting_rows()
    for name, setting in settings_read().items():
        _, default, values, meaning = rows[name]
        if setting.default is None:
            assert default.startswith("derived: "), name
        else:
            assert default == (f"`{setting.default}`" if setting.default else "none"), name
        assert values.endswith(setting.values), f"{name}: {setting.values}"
        assert values.startswith("secret") == (setting.reader == "env_secret"), name
        assert meaning.endswith("."), name


def test_the_rows_tell_haproxys_own_variables_and_their_defaults() -> None:
    rows = entries(sections(document("docs/reference/settings.md"))["HAProxy"])
    own = haproxy_variables() - settings_read().keys()
    assert unique([bare(row[0]) for row in rows]) == own
    defaults = haproxy_defaults()
    assert defaults.keys() <= haproxy_variables()
    for name, default, *_ in rows:
        wanted = defaults.get(bare(name))
        assert default == (f"`{wanted}`" if wanted else "none"), name


def test_haproxy_and_headrace_have_the_same_defaults() -> None:
    settings = settings_read()
    shared = haproxy_defaults().keys() & settings.keys()
    assert shared == {"HSTS_SECONDS", "MAX_BODY_BYTES"}
    assert {name: haproxy_defaults()[name] for name in shared} == {
        name: settings[name].default for name in shared
    }


def test_containers_of_nodes_and_workers_may_leave_before_they_are_killed() -> None:
    settings = settings_read()
    compose = document("docker-compose.yml")
    seconds = {
        service: float(re.search(r"stop_grace_period: (\d+)s", text)[1])  # type: ignore[index]
        for service, text in re.findall(
            r"^  (web|worker):\n(.*?)(?=^  \w|\Z)", compose, re.M | re.S
        )
    }
    leaving = sum(float(settings[f"DRAIN_{name}SECONDS"].default or 0) for name in ("", "SETTLE_"))
    assert seconds["web"] >= leaving + 12
    assert seconds["worker"] > float(settings["JOB_GRACE_SECONDS"].default or 0)


def test_settings_that_the_stack_hands_on_are_marked() -> None:
    tree = modules()["scaling/cluster/plan.py"]
    known = settings_read().keys()
    handed_on = {text_of(node) for node in ast.walk(tree) if isinstance(node, ast.expr)} & known
    assert {name for name, row in setting_rows().items() if "†" in row[0]} == handed_on


def test_the_example_file_holds_every_setting_with_its_default() -> None:
    lines = document(".env.example").splitlines()
    found = {}
    for before, line in itertools.pairwise(lines):
        if match := re.fullmatch(r"#(\w+)=(.*)", line):
            assert re.fullmatch(r"# [^-].*[.)]", before), f"no comment above {match[1]}"
            assert match[1] not in found, f"{match[1]} comes twice"
            found[match[1]] = match[2]
        else:
            assert re.fullmatch(r"(# .*)?", line), f"not a comment: {line}"
    expected = dict.fromkeys(haproxy_variables(), "") | haproxy_defaults()
    expected |= {name: setting.default or "" for name, setting in settings_read().items()}
    assert found == expected


def test_names_of_settings_are_literals() -> None:
    dynamic = {path for path, call in calls(READERS) if text_of(call.args[0]) is None}
    assert dynamic == set(DYNAMIC_READERS)


def test_nothing_but_env_reads_the_environment() -> None:
    names = {"environ", "environb", "getenv", "getenvb"}
    users = set()
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in names:
                users.add(path)
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not names & {alias.name for alias in node.names}, path
    assert users == set(ENVIRONMENT_USERS)


# --- Metrics ------------------------------------------------------------------------------------
def metrics_defined() -> dict[str, tuple[str, set[str]]]:
    """Return the metrics by their exported names, with kind and labels."""
    found = {}
    for path, call in calls(set(METRIC_KINDS)):
        # The standard library has a Counter too.
        if isinstance(call.func, ast.Name) and called(call) in imported(path, "collections"):
            continue
        name = text_of(call.args[0])
        assert name is not None, f"{path}:{call.lineno} hides the name of a metric"
        labels = call.args[2] if len(call.args) > 2 else None
        labels = labels or keyword(call, "labelnames") or keyword(call, "labels")
        kind = METRIC_KINDS[called(call)]
        # prometheus_client itself says what it adds to a name.
        exported = name + ("_total" if kind is Counter else "")
        assert exported not in found, f"{exported} is defined twice"
        names = set(ast.literal_eval(labels)) if labels else set()
        found[exported] = (kind.__name__.lower(), names)
    return found


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    rows = entries(document("docs/reference/metrics.md"))
    unique([bare(row[0]) for row in rows])
    told = {bare(row[0]): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}
    assert told == metrics_defined()


# --- Commands -----------------------------------------------------------------------------------
def commands() -> dict[str, dict[str, argparse.ArgumentParser]]:
    """Return our management commands with their verbs' parsers."""
    found = {}
    for name, app in get_commands().items():
        if app not in ROOMS:
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        # argparse has no public way to ask for the verbs.
        verbs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        found[name] = dict(verbs[0].choices) if verbs else {}
    return found


def test_every_command_has_a_section_with_its_options() -> None:
    told = sections(document("docs/reference/commands.md"))
    expected = {"Commands"}
    for command, verbs in commands().items():
        assert verbs, f"{command} has no verbs: extend this test"
        expected |= {command, *(f"{command} {verb}" for verb in verbs)}
        for verb, parser in verbs.items():
            text = told.get(f"{command} {verb}", "")
            assert f"manage.py {command} {verb}" in text, f"{command} {verb}"
            options = {o for action in parser._actions for o in action.option_strings}
            options -= {"-h", "--help"}
            found = set(re.findall(r"(?<![\w-])--[a-z-]+", text))
            assert found == options, f"{command} {verb}"
            for action in parser._actions:
                if not action.option_strings:
                    assert action.dest.upper() in text, f"{command} {verb} {action.dest}"
    assert told.keys() == expected


# --- Errors -------------------------------------------------------------------------------------
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
            return status.value if isinstance(status, ast.Constant) else None
    return None


def error_codes() -> set[tuple[str, int | None]]:
    """Return every code that an ApiError is made with, and its status."""
    classes = error_classes()
    found = set(REST_FRAMEWORK_CODES)
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


def test_the_rows_of_errors_tell_the_type() -> None:
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


# --- Files --------------------------------------------------------------------------------------
def documents() -> list[Path]:
    """Return every document that people read."""
    return [*sorted(BASE_DIR.glob("*.md")), *sorted((BASE_DIR / "docs").rglob("*.md"))]


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


def test_no_file_says_where_packages_come_from() -> None:
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


def test_every_module_says_what_it_is() -> None:
    silent = [
        path
        for path, tree in modules().items()
        if tree.body and "/migrations/" not in path and not ast.get_docstring(tree)
    ]
    assert not silent


# --- Guides -------------------------------------------------------------------------------------
def code_block(name: str, language: str) -> str:
    """Return the first block of a language in a document."""
    match = re.search(rf"^```{language}\n(.*?)^```", document(name), flags=re.M | re.S)
    assert match is not None
    return match[1]


def test_the_chain_of_the_guide_works() -> None:
    source = code_block("docs/guides/chains.md", "python")
    assert len(source.splitlines()) < 15
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102 - our own document
    chain = SimpleNamespace(system_prompt="", model=FakeListChatModel(responses=["Arr."]))
    runnable = namespace["build"](chain)
    assert runnable.invoke({"messages": [HumanMessage("hello")]}) == "Arr."
    assert read_chat_input(runnable)[0] is ChatInput.MESSAGES


def production_environment(directory: Path) -> dict[str, str]:
    """Return the guide's settings, their secrets in files of this directory."""
    lines = code_block("docs/guides/production.md", "env").splitlines()
    given = dict(line.split("=", 1) for line in lines)
    values = {
        "SECRET_KEY_FILE": secrets.token_urlsafe(50),
        "DATABASE_URL_FILE": "postgresql://headrace@127.0.0.1:5432/headrace",
        "CACHE_URL_FILE": "redis://127.0.0.1:6379/0",
        "LLM_API_KEY_FILE": "a key",
    }
    assert {name for name in given if name.endswith("_FILE")} == values.keys()
    for name, value in values.items():
        path = directory / name
        path.write_text(value, encoding="utf-8")
        given[name] = str(path)
    return given


def check_deploy(environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check --deploy` with nothing set but this, and no stack in sight."""
    path = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=BASE_DIR,
        env={**path, **environment, "STATE_DIR": str(directory / "none")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_settings_of_the_production_guide_pass_the_deployment_check(tmp_path: Path) -> None:
    environment = production_environment(tmp_path)
    assert set(environment) <= settings_read().keys() | {
        f"{name}_FILE" for name, s in settings_read().items() if s.reader == "env_secret"
    }
    result = check_deploy(environment, tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_deployment_check_fails_without_https(tmp_path: Path) -> None:
    environment = production_environment(tmp_path)
    del environment["HTTPS"]
    assert "security.W008" in check_deploy(environment, tmp_path).stderr
