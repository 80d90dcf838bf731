"""Settings read from the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env
from config.database import database_from_url


@pytest.fixture(autouse=True)
def _no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "RUNNING_STACK", {"FROM_STACK": "7"})


@pytest.mark.parametrize(
    ("read", "raw", "expected"),
    [
        (lambda: env.env_str("X"), " text ", "text"),
        (lambda: env.env_int("X", 1), "0", 0),
        (lambda: env.env_int("X", 1, minimum=-5), "-5", -5),
        (lambda: env.env_int("X", 1, maximum=9), " 9 ", 9),
        (lambda: env.env_float("X", 1.0), "0", 0.0),
        (lambda: env.env_float("X", 1.0), "2.5", 2.5),
        (lambda: env.env_bool("X", False), "Yes", True),
        (lambda: env.env_bool("X", True), "OFF", False),
        (lambda: env.env_list("X", ["d"]), "a, b,,c ", ["a", "b", "c"]),
        (lambda: env.env_choice("X", "a", ("a", "b")), "b", "b"),
        (lambda: env.env_secret("X"), "s", "s"),
    ],
)
def test_a_good_value_is_read(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any], raw: str, expected: Any
) -> None:
    monkeypatch.setenv("X", raw)
    assert read() == expected


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        (lambda: env.env_int("X", 1), "one"),
        (lambda: env.env_int("X", 1), "1.5"),
        (lambda: env.env_int("X", 1), "-1"),
        (lambda: env.env_int("X", 1, maximum=9), "10"),
        (lambda: env.env_float("X", 1.0), "nan"),
        (lambda: env.env_float("X", 1.0), "-0.1"),
        (lambda: env.env_float("X", 1.0, maximum=60.0), "inf"),
        (lambda: env.env_bool("X", False), "maybe"),
        (lambda: env.env_bool("X", False), "2"),
        (lambda: env.env_choice("X", "a", ("a", "b")), "c"),
    ],
)
def test_a_bad_value_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any], raw: str
) -> None:
    monkeypatch.setenv("X", raw)
    with pytest.raises(ImproperlyConfigured, match=r"^X="):
        read()


@pytest.mark.parametrize("raw", [None, "", "  "])
def test_an_absent_or_empty_variable_is_the_default(
    monkeypatch: pytest.MonkeyPatch, raw: str | None
) -> None:
    monkeypatch.delenv("X", raising=False)
    if raw is not None:
        monkeypatch.setenv("X", raw)
    assert env.env_int("X", 3) == 3
    assert env.env_bool("X", True) is True
    assert env.env_list("X", ["d"]) == ["d"]
    assert env.env_str("X", "d") == "d"
    assert env.env_secret("X", "d") == "d"


def test_the_process_comes_before_the_running_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.env_int("FROM_STACK", 1) == 7
    monkeypatch.setenv("FROM_STACK", "8")
    assert env.env_int("FROM_STACK", 1) == 8


def test_a_setting_by_its_old_name_is_refused_with_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"OLD_SECONDS": "NEW_TIMEOUT, with its unit"}
    env.refuse_renamed(names)
    monkeypatch.setenv("OLD_SECONDS", " ")
    env.refuse_renamed(names)
    monkeypatch.setenv("OLD_SECONDS", "3")
    with pytest.raises(
        ImproperlyConfigured, match=r"^OLD_SECONDS has another name now: set NEW_TIMEOUT"
    ):
        env.refuse_renamed(names)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("PROXY_CLIENT_SECONDS", "PROXY_CLIENT_TIMEOUT, with its unit (30s)"),
        ("PROXY_RESPONSE_SECONDS", "PROXY_RESPONSE_TIMEOUT, with its unit (660s)"),
        ("NOTICE_CONCURRENCY", "NOTIFICATION_CONCURRENCY"),
        ("NOTICE_ACCOUNT_CONCURRENCY", "NOTIFICATION_ACCOUNT_CONCURRENCY"),
        ("WEBHOOK_MAX_ANSWER_BYTES", "WEBHOOK_MAX_RESPONSE_BYTES"),
    ],
)
def test_no_command_starts_with_a_renamed_setting(name: str, new: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=env.BASE_DIR,
        env={**os.environ, name: "5"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {name} has another name now: set {new}")


def test_the_stacks_file_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "stack.env"
    assert env.read_stack_env(file) == {}
    file.write_text("A=1\nB=x=y\n\nno pair\nC=\n")
    assert env.read_stack_env(file) == {"A": "1", "B": "x=y", "C": ""}


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hidden\n")
    monkeypatch.setenv("X_FILE", str(file))
    assert env.env_secret("X") == "hidden"
    monkeypatch.setenv("X", "other")
    with pytest.raises(ImproperlyConfigured, match="X or X_FILE, not both"):
        env.env_secret("X")
    monkeypatch.delenv("X")
    monkeypatch.setenv("X_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ImproperlyConfigured, match=r"^X_FILE"):
        env.env_secret("X")


def test_a_secret_of_the_process_comes_before_the_running_stacks_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_text("the stack's\n")
    ours.write_text("from a file\n")
    monkeypatch.setattr(env, "RUNNING_STACK", {"X_FILE": str(theirs)})
    assert env.env_secret("X") == "the stack's"
    monkeypatch.setenv("X", "typed")
    assert env.env_secret("X") == "typed"
    monkeypatch.setattr(env, "RUNNING_STACK", {"X": "the stack's"})
    monkeypatch.delenv("X")
    monkeypatch.setenv("X_FILE", str(ours))
    assert env.env_secret("X") == "from a file"


def test_a_map_is_read_and_its_secrets_never_quoted() -> None:
    assert env.parse_map("X", "a=1, b = x=y ,") == {"a": "1", "b": "x=y"}
    assert env.parse_map("X", "") == {}
    with pytest.raises(ImproperlyConfigured, match=r"^X must") as caught:
        env.parse_map("X", "a=1,sk-secret")
    assert "sk-secret" not in str(caught.value)


# --- A database's URL ---------------------------------------------------------------------------
def test_a_database_url_is_read_by_libpq_itself() -> None:
    entry = database_from_url(
        "DATABASE_URL",
        "postgresql://me:p%40ss@one,two:6000/shop?sslmode=require&target_session_attrs=any",
        pool={"max_size": 3},
        options={"lock_timeout": "5"},
    )
    assert (entry["NAME"], entry["USER"], entry["PASSWORD"]) == ("shop", "me", "p@ss")
    assert entry["HOST"] == "one,two"
    assert entry["OPTIONS"]["sslmode"] == "require"
    assert entry["OPTIONS"]["pool"] == {"max_size": 3}
    assert entry["OPTIONS"]["options"] == "-c lock_timeout=5"
    assert entry["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize("url", ["mysql://x/y", "x", "", "postgresql://x/?nonsense=1"])
def test_a_bad_database_url_names_the_setting(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL"):
        database_from_url("DATABASE_URL", url, pool={}, options={})
