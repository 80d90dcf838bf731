"""The reference of settings, the example file and HAProxy's file say what the code reads."""

from __future__ import annotations

import ast
import itertools
import re

from tests.docs.settings import DYNAMIC_READERS, READERS, settings_read
from tests.docs.source import calls, modules, text_of
from tests.docs.texts import bare, document, entries, sections, unique

# Who touches the process's environment, and why.
ENVIRONMENT_USERS = {
    "config/env.py": "the one reader",
    "config/wsgi.py": "sets DJANGO_SETTINGS_MODULE",
    "jobs/worker/__main__.py": "sets DJANGO_SETTINGS_MODULE",
    "fleet/cluster/startup.py": "hands the whole environment on to a child",
}

MIB = 1024 * 1024


def haproxy_variables() -> set[str]:
    """Return the variables that haproxy.cfg reads, or only sets for the files of Lua."""
    read = set(re.findall(r"\$\{(\w+)", document("haproxy/haproxy.cfg")))
    return read | haproxy_defaults().keys()


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


def test_the_rows_have_the_defaults_and_the_allowed_values() -> None:
    rows = setting_rows()
    for name, setting in settings_read().items():
        _, _, default, values, meaning = rows[name]
        if setting.default is None:
            assert default.startswith("derived: "), name
        else:
            assert default == (f"`{setting.default}`" if setting.default else "none"), name
        assert values.endswith(setting.values), f"{name}: {setting.values}"
        assert values.startswith("secret") == (setting.reader == "env_secret"), name
        assert meaning.endswith("."), name


def test_the_rows_have_haproxys_own_variables_and_their_defaults() -> None:
    rows = entries(sections(document("docs/reference/settings.md"))["HAProxy"])
    own = haproxy_variables() - settings_read().keys()
    assert unique([bare(row[0]) for row in rows]) == own
    defaults = haproxy_defaults()
    assert defaults.keys() <= haproxy_variables()
    for name, _, default, *_ in rows:
        wanted = defaults.get(bare(name))
        assert default == (f"`{wanted}`" if wanted else "none"), name


def test_haproxy_and_headrace_have_the_same_defaults() -> None:
    settings = settings_read()
    shared = haproxy_defaults().keys() & settings.keys()
    assert shared == {"HSTS_SECONDS", "MAX_BODY_BYTES", "MAX_MEDIA_BODY_BYTES"}
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


def test_containers_of_nodes_have_room_for_uploads_and_for_their_readers() -> None:
    settings = {name: setting.default for name, setting in settings_read().items()}
    compose = document("docker-compose.yml")
    room = int(re.search(r"&tmp \{.*size: (\d+)\}", compose)[1])  # type: ignore[index]
    assert room >= int(settings["UPLOAD_BYTES"] or 0) + 32 * MIB
    web = re.search(r"^  web:\n.*?memory: (\d+)G", compose, re.M | re.S)
    readers = int(settings["JOB_FILE_READERS"] or 0) * int(settings["JOB_FILE_MEMORY_BYTES"] or 0)
    assert int(web[1]) * 1024 * MIB >= 400_000_000 + room + readers  # type: ignore[index]


def test_settings_that_the_stack_hands_on_are_marked() -> None:
    tree = modules()["fleet/cluster/plan.py"]
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


def test_everyday_and_tuning_settings_are_apart() -> None:
    kinds = {name: row[1] for name, row in setting_rows().items()}
    assert set(kinds.values()) == {"everyday", "tuning"}
    parts = re.split(r"^# === (\w+) settings =+$", document(".env.example"), flags=re.M)
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        names = re.findall(r"^#(\w+)=", text, flags=re.M)
        assert {kinds[name] for name in names} == {title.lower()}, title


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
