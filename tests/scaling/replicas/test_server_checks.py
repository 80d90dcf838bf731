"""`manage.py replicas check`: what it finds, on real servers and by the facts alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.checks import run_checks

from scaling.replicas import detachment
from scaling.replicas.server_checks import judge
from scaling.replicas.server_info import ServerInfo, Slot
from scaling.replicas.settings_checks import of_settings
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import run_manage

PRIMARY = ServerInfo(
    is_in_recovery=False,
    started_at="2026-11-25 10:00:00.000001+00",
    major_version=17,
    system_identifier=1,
    may_monitor=True,
    has_feedback=False,
    max_connections=97,
    processes=3,
    slots=(Slot(name="near", is_active=True, wal_status="reserved"),),
)
REPLICA = replace(
    PRIMARY,
    is_in_recovery=True,
    started_at="2026-11-25 10:00:00.000002+00",
    has_feedback=True,
    slots=(),
)

Check = Callable[..., tuple[int, list[dict[str, str]]]]


def ids(**answers: ServerInfo | str) -> list[str]:
    """Return what is found when servers say this; those that are well are filled in."""
    whole: dict[str, ServerInfo | str] = {"default": PRIMARY, "near": REPLICA, **answers}
    return [finding.id.removeprefix("scaling.") for finding in judge(whole)]


def slot(**more: Any) -> ServerInfo:
    return replace(PRIMARY, slots=(replace(PRIMARY.slots[0], **more),))


@pytest.fixture
def check(stack: EmbeddedStack) -> Check:
    """Return a function that runs the command with some settings; it returns code and findings."""

    def run(**env: str) -> tuple[int, list[dict[str, str]]]:
        done = run_manage(stack, "replicas", "check", "--json", env=env)
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)
        assert found["level"] == ("ok", "warning", "error")[done.returncode]
        return done.returncode, found["findings"]

    return run


@contextmanager
def changed(url: str, do: str, undo: str) -> Iterator[None]:
    """Change something at a server, and back."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in do.split(";"):
            connection.execute(statement.encode())
        try:
            yield
        finally:
            for statement in undo.split(";"):
                connection.execute(statement.encode())


# --- ServerInfo alone ---------------------------------------------------------------------------
def test_servers_that_are_well_have_no_findings() -> None:
    assert ids() == []


def test_a_server_that_does_not_answer_is_an_error() -> None:
    assert ids(near="refused") == ["E010"]
    # What is compared with the primary is not guessed.
    assert ids(default="refused") == ["E010"]


def test_roles_are_looked_at() -> None:
    assert ids(default=replace(PRIMARY, is_in_recovery=True)) == ["E011"]
    assert ids(near=replace(REPLICA, is_in_recovery=False)) == ["E013"]
    # A replica's URL that leads to the primary itself, as after a failover, is none that strayed.
    assert ids(near=PRIMARY) == []


def test_slots_are_looked_at() -> None:
    assert ids(default=slot(wal_status="lost", is_active=False)) == ["E012"]
    assert ids(default=slot(wal_status="unreserved")) == ["W011"]
    assert ids(default=slot(is_active=False)) == ["W012"]
    # One that was never used retains nothing.
    assert ids(default=slot(is_active=False, wal_status=None)) == []


def test_a_replica_is_compared_with_its_primary() -> None:
    assert ids(near=replace(REPLICA, has_feedback=False)) == ["W013"]
    assert ids(near=replace(REPLICA, system_identifier=2)) == ["E014"]
    assert ids(near=replace(REPLICA, major_version=16)) == ["E015"]


def test_pools_are_compared_with_the_room(settings: Any) -> None:
    settings.DATABASE_POOL = {**settings.DATABASE_POOL, "max_size": 16}
    # Three processes with 16 connections and one to watch.
    assert ids(default=replace(PRIMARY, max_connections=51)) == []
    assert ids(default=replace(PRIMARY, max_connections=50)) == ["W014"]
    # No process runs, and one alone has no room.
    assert ids(default=replace(PRIMARY, processes=0, max_connections=16)) == ["W014"]
    # Without a pool there is nothing to compare.
    settings.DATABASE_POOL = {**settings.DATABASE_POOL, "max_size": 0}
    assert ids(default=replace(PRIMARY, max_connections=1)) == []
    assert found_in_settings() == []


# --- Settings -----------------------------------------------------------------------------------
def found_in_settings() -> list[str]:
    return [finding.id.removeprefix("scaling.") for finding in of_settings()]


def test_positions_are_stored_twice_as_long_as_a_replica_may_lag(settings: Any) -> None:
    settings.HAS_REPLICAS = True
    settings.POSITION_SECONDS, settings.REPLICA_MAX_LAG_SECONDS = 20.0, 10.0
    assert found_in_settings() == []
    settings.POSITION_SECONDS = 19.9
    assert found_in_settings() == ["E002"]
    assert "scaling.E002" in [message.id for message in run_checks()]
    settings.HAS_REPLICAS = False
    assert found_in_settings() == []


def test_pools_and_times_are_looked_at(settings: Any) -> None:
    settings.HAS_REPLICAS = True
    settings.REPLICA_POOL = {**settings.REPLICA_POOL, "min_size": 9, "max_size": 8}
    settings.REPLICA_CHECK_SECONDS = 0.5
    assert found_in_settings() == ["E001", "W001"]


def test_addresses_are_looked_at(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.HAS_REPLICAS = True
    entries: dict[str, dict[str, Any]] = {
        "default": {"HOST": "a,b", "OPTIONS": {}},
        "near": {"HOST": "a"},
    }
    monkeypatch.setattr("scaling.replicas.settings_checks.connections.settings", entries)
    assert found_in_settings() == ["E003"]
    entries["default"]["OPTIONS"] = {"target_session_attrs": "read-write"}
    assert found_in_settings() == []
    entries["default"]["HOST"] = "a"
    assert found_in_settings() == ["W002"]


# --- Real servers -------------------------------------------------------------------------------
def test_the_stack_is_well(stack: EmbeddedStack, check: Check) -> None:
    assert check() == (0, [])
    done = run_manage(stack, "replicas", "check")
    assert (done.returncode, done.stdout) == (0, "OK: no problems.\n")


def test_an_unused_slot_and_a_detached_replica_are_warnings(
    stack: EmbeddedStack, check: Check
) -> None:
    [name] = stack.replica_urls
    make = "SELECT pg_create_physical_replication_slot('left_behind', true)"
    detachment.add_detached(name)
    try:
        with changed(stack.database_url, make, "SELECT pg_drop_replication_slot('left_behind')"):
            code, findings = check()
    finally:
        detachment.remove_detached(name)
    assert code == 1
    assert [finding["id"] for finding in findings] == ["scaling.W012", "scaling.W016"]
    assert "pg_drop_replication_slot('left_behind')" in findings[0]["advice"]
    assert findings[1]["subject"] == name


def test_feedback_that_is_off_is_a_warning(stack: EmbeddedStack, check: Check) -> None:
    [url] = stack.replica_urls.values()
    reload = "SELECT pg_reload_conf(); SELECT pg_sleep(0.5)"
    with changed(
        url,
        f"ALTER SYSTEM SET hot_standby_feedback = off; {reload}",
        f"ALTER SYSTEM RESET hot_standby_feedback; {reload}",
    ):
        code, findings = check()
    assert code == 1
    assert [finding["id"] for finding in findings] == ["scaling.W013"]


def test_a_role_without_pg_monitor_is_a_warning_until_it_has_it(
    stack: EmbeddedStack, check: Check
) -> None:
    make = "CREATE ROLE modest LOGIN PASSWORD 'modest'"
    address = urlsplit(stack.database_url).netloc.rsplit("@", 1)[1]
    url = f"postgresql://modest:modest@{address}/headrace"
    with changed(stack.database_url, make, "DROP ROLE modest"):
        code, findings = check(DATABASE_URL=url)
        assert code == 1
        assert [finding["id"] for finding in findings] == ["scaling.W010"]
        with changed(stack.database_url, "GRANT pg_monitor TO modest", "SELECT 1"):
            assert check(DATABASE_URL=url) == (0, [])


def test_replicas_that_are_none_are_errors(stack: EmbeddedStack, check: Check) -> None:
    gone = "postgresql://headrace@127.0.0.1:1/headrace"
    code, findings = check(DATABASE_REPLICA_URLS=f"same={stack.database_url},gone={gone}")
    assert code == 2
    assert sorted(finding["id"] for finding in findings) == [
        "scaling.E010",
        "scaling.W002",
    ]
    assert findings[-1]["level"] == "warning"


def test_too_little_room_is_counted_with_the_processes_that_run(check: Check) -> None:
    code, findings = check(REPLICA_POOL_MAX="100")
    assert code == 1
    [finding] = findings
    assert finding["id"] == "scaling.W014"
    assert "3 processes may take 101 each" in finding["text"]


def test_an_unavailable_redis_is_a_warning(check: Check) -> None:
    code, findings = check(CACHE_URL="redis://127.0.0.1:1/0")
    assert code == 1
    assert [finding["id"] for finding in findings] == ["scaling.W015"]


def test_the_check_of_django_finds_what_the_settings_say(stack: EmbeddedStack) -> None:
    def run(**env: str) -> subprocess.CompletedProcess[str]:
        return run_manage(stack, "check", env=env)

    assert run().returncode == 0
    done = run(POSITION_SECONDS="15")
    assert done.returncode == 1
    assert "scaling.E002" in done.stderr
