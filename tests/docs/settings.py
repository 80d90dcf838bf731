"""The settings that the code reads, with their defaults and allowed values."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass

from tests.docs.source import called, calls, keyword, text_of
from tests.docs.texts import document

READERS = {"env_str", "env_int", "env_float", "env_bool", "env_list", "env_choice", "env_secret"}
# Who reads settings by names that are not literals, and why that hides none.
DYNAMIC_READERS = {
    "fleet/cluster/plan.py": "checks whether a setting that settings.py reads was given",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One read of a setting; `default` is None when it is computed."""

    reader: str
    default: str | None
    values: str


@functools.cache
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
    """Return how a row's allowed values must end."""
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
