"""Typed readers of the environment.

A setting's name is its environment variable's name. The process's environment comes first, then
`STATE_DIR/stack.env`, the file that a running embedded stack leaves so that commands typed in
another terminal find it. A bad value raises `ImproperlyConfigured` and names the variable.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(os.environ.get("STATE_DIR") or BASE_DIR / ".headrace").absolute()
STACK_ENV_FILE = STATE_DIR / "stack.env"

TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"0", "false", "no", "off"}


def read_stack_env(path: Path) -> dict[str, str]:
    """Return the `NAME=value` lines of a stack file; an absent file is an empty stack."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise ImproperlyConfigured(
            f"{path} belongs to another user; use that user, or another STATE_DIR"
        ) from error
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


RUNNING_STACK = read_stack_env(STACK_ENV_FILE)


def _raw(name: str) -> str | None:
    return os.environ.get(name, RUNNING_STACK.get(name))


def _parse(name: str, default: T, parse: Callable[[str], T]) -> T:
    raw = _raw(name)
    if raw is None or raw.strip() == "":
        return default
    try:
        return parse(raw.strip())
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={raw!r}: {error}") from error


def refuse_renamed(names: Mapping[str, str]) -> None:
    """Raise ImproperlyConfigured if a setting is given by its old name; `names` is old -> new."""
    for old, new in names.items():
        if (_raw(old) or "").strip():
            raise ImproperlyConfigured(f"{old} has another name now: set {new}")


def env_str(name: str, default: str = "") -> str:
    """Return a text setting; an empty variable means the default."""
    return _parse(name, default, str)


def env_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """Return one of `choices`."""

    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return raw

    return _parse(name, default, parse)


def env_int(name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return an integer within the bounds."""

    def parse(raw: str) -> int:
        return _bounded(int(raw), minimum, maximum)

    return _parse(name, default, parse)


def env_float(
    name: str, default: float, *, minimum: float = 0.0, maximum: float | None = None
) -> float:
    """Return a number within the bounds; `nan` is refused."""

    def parse(raw: str) -> float:
        return _bounded(float(raw), minimum, maximum)

    return _parse(name, default, parse)


def env_bool(name: str, default: bool) -> bool:
    """Return a switch: 1/true/yes/on or 0/false/no/off."""

    def parse(raw: str) -> bool:
        word = raw.lower()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise ValueError("must be true or false")

    return _parse(name, default, parse)


def env_list(name: str, default: list[str]) -> list[str]:
    """Return a comma-separated list without its empty items."""
    return _parse(
        name, default, lambda raw: [item.strip() for item in raw.split(",") if item.strip()]
    )


def env_secret(name: str, default: str = "") -> str:
    """Return a secret from `NAME`, or from the file that `NAME_FILE` names.

    Either of them in the process's environment comes before both in the running stack's.
    """
    value, file_name = _secret_source(name)
    if file_name:
        return _read_secret(name, file_name)
    return value or default


def secret_file(name: str) -> Path | None:
    """Return the file that a secret comes from, if it comes from one."""
    _, file_name = _secret_source(name)
    return Path(file_name) if file_name else None


def _secret_source(name: str) -> tuple[str, str]:
    for source in (os.environ, RUNNING_STACK):
        value = source.get(name, "").strip()
        file_name = source.get(f"{name}_FILE", "").strip()
        if value and file_name:
            raise ImproperlyConfigured(f"set {name} or {name}_FILE, not both")
        if value or file_name:
            return value, file_name
    return "", ""


def _read_secret(name: str, file_name: str) -> str:
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{name}_FILE: it is not UTF-8") from error


def parse_map(name: str, text: str) -> dict[str, str]:
    """Return `key=value,key=value` as a dict; raises ImproperlyConfigured naming the setting.

    The pairs are never quoted in the error: a map may hold secrets.
    """
    pairs = [item.strip() for item in text.split(",") if item.strip()]
    if any("=" not in pair for pair in pairs):
        raise ImproperlyConfigured(f"{name} must look like key=value,key=value")
    return {key.strip(): value.strip() for key, value in (p.split("=", 1) for p in pairs)}


def _bounded(value: T, minimum: T, maximum: T | None) -> T:
    # Written as "not in range" so that a NaN, which compares false to all, is refused too.
    if not (value >= minimum and (maximum is None or value <= maximum)):  # type: ignore[operator]
        upper = "" if maximum is None else f" and at most {maximum}"
        raise ValueError(f"must be at least {minimum}{upper}")
    return value
