"""Database servers that come, go and are promoted while a stack runs.

The tests share one stack and its servers; each takes the roles as it finds them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable

import psutil
import psycopg
import pytest

from fleet.cluster.errors import ClusterError
from fleet.cluster.replicas import promote as promoting
from fleet.cluster.replicas.remove import remove
from tests.fleet.cluster.database_servers import (
    Writer,
    assert_well,
    command,
    cut_off,
    freeze,
    held,
    kill_at,
    pid_of,
    promote,
    roles,
    thaw,
)
from tests.stack_plugin import MANAGE
from tests.support.own_stack import OwnStack
from tests.support.waiting import eventually

ARGUMENTS = ("--no-llm", "--nodes=1", "--workers=0")

# One story on one stack, of minutes: each test goes on where the one before it ended.
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def own(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack with a primary and one replica."""
    own = make_stack(*ARGUMENTS)
    own.start()
    with psycopg.connect(own.database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE kept (writer int, number int, PRIMARY KEY (writer, number))"
        )
    return own


def test_a_server_is_added_though_the_first_attempt_was_killed(own: OwnStack) -> None:
    kill_at(own, "copied", "add")

    added = own.manage("replicas", "add", "--json")

    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout) == {"name": "postgres3"}
    assert "postgres3: streams at" in added.stderr
    assert_well(own, primary="postgres1", replicas=["postgres2", "postgres3"])
    assert own.answers()


def test_nothing_is_lost_when_the_primary_lives(own: OwnStack) -> None:
    writer = Writer(own)
    # A replica that lags has received everything, and replays it before it takes the role.
    with psycopg.connect(own.replica_urls["postgres2"], autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET recovery_min_apply_delay = '1min'")
        connection.execute("SELECT pg_reload_conf()")

    with writer.writing():
        done = command(own, "promote", "postgres2")

    assert (done["primary"], done["old_primary"]) == ("postgres2", "postgres1")
    assert (done["was_planned"], done["lost_commits"]) == (True, 0)
    assert done["replicas"]["postgres3"] == "follows"
    assert writer.missing() == set()
    assert_well(own, primary="postgres2", replicas=["postgres1", "postgres3"])


def test_a_servers_own_settings_survive_a_rejoin(own: OwnStack) -> None:
    done = promote(own, "postgres1")

    assert "rewound" in done["replicas"]["postgres2"]
    with psycopg.connect(own.replica_urls["postgres2"], autocommit=True) as connection:
        assert connection.execute("SHOW recovery_min_apply_delay").fetchone() == ("1min",)
        connection.execute("ALTER SYSTEM RESET recovery_min_apply_delay")
        connection.execute("SELECT pg_reload_conf()")
    assert_well(own, primary="postgres1", replicas=["postgres2", "postgres3"])


def test_a_frozen_primary_takes_no_write_after_the_promotion(own: OwnStack) -> None:
    writer = Writer(own)
    # Its own connection: the backend of a frozen postmaster goes on.
    with psycopg.connect(own.database_url, autocommit=True) as old, writer.writing():
        os.kill(pid_of(own, "postgres1"), signal.SIGSTOP)

        done = promote(own, "postgres3")

        with pytest.raises(psycopg.OperationalError):
            old.execute("INSERT INTO kept VALUES (0, 0)")
    assert done["was_planned"] is False
    assert len(writer.missing()) <= done["lost_commits"]
    assert_well(own, primary="postgres3", replicas=["postgres1", "postgres2"])


def test_what_only_another_replica_has_is_not_lost(own: OwnStack) -> None:
    primary, (name, other) = roles(own)
    writer = cut_off(own, name)
    freeze(pid_of(own, primary))

    done = promote(own, name)

    assert (done["was_planned"], done["lost_commits"]) == (False, 0)
    assert writer.missing() == set()
    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_lost_commits_are_counted_and_a_replica_that_has_them_is_copied_again(
    own: OwnStack,
) -> None:
    primary, (name, other) = roles(own)
    writer = cut_off(own, name)
    pid = pid_of(own, other)
    freeze(pid)
    freeze(pid_of(own, primary))

    done = promote(own, name)
    thaw(pid)
    again = promote(own, name)

    assert done["was_planned"] is False
    assert len(writer.missing()) == len(writer.acknowledged) == done["lost_commits"]
    assert again["replicas"][other] == "copied the primary"
    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_a_server_that_is_frozen_during_a_promotion_follows_later(own: OwnStack) -> None:
    primary, (name, other) = roles(own)
    pid = pid_of(own, other)
    os.kill(pid, signal.SIGSTOP)
    try:
        done = promote(own, name)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert done["replicas"][other] == "does not answer"

    def follows() -> bool:
        with psycopg.connect(own.database_url) as connection:
            query = "SELECT 1 FROM pg_stat_replication WHERE application_name = %s"
            return connection.execute(query, [other]).fetchone() is not None

    eventually(follows, seconds=20, what=f"{other} follows")
    assert promote(own, name)["old_primary"] is None
    assert_well(own, primary=name, replicas=sorted([primary, other]))


@pytest.mark.parametrize("line", ["stopping, so that", "promoted", "accepts writes"])
def test_a_promotion_that_was_killed_is_ended_by_the_next(own: OwnStack, line: str) -> None:
    primary, (name, other) = roles(own)
    writer = Writer(own)
    with writer.writing():
        kill_at(own, line, "promote", name)

        promote(own, name)

    assert writer.missing() == set()
    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_a_primary_that_is_killed_during_its_promotion_is_ended_well(own: OwnStack) -> None:
    primary, (name, other) = roles(own)
    pid = pid_of(own, primary)
    with subprocess.Popen(
        [*MANAGE, "replicas", "promote", name], env=own.env, stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
                process.kill()
        command.communicate(timeout=60)

    promote(own, name)

    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_a_stopped_stack_starts_with_the_recorded_primary(own: OwnStack) -> None:
    primary, (name, other) = roles(own)
    writer = Writer(own)
    with writer.writing():
        promote(own, name)
    # Recorded, fenced, and not yet promoted: the next start must do it.
    kill_at(own, "stopping, so that", "promote", primary)
    record = {"primary": primary, "replicas": sorted([name, other])}
    (own.state_dir / "topology.json").write_text(json.dumps(record))
    (own.state_dir / "topology.json").chmod(0o600)
    own.stop()
    own.env["EMBEDDED_SYNCHRONOUS_COMMIT"] = "remote_apply"

    own.start()

    assert f"{primary} | finished its promotion" in own.output()
    assert writer.missing() == set()
    assert own.answers()
    assert_well(own, primary=primary, replicas=sorted([name, other]))


def test_a_synchronous_commit_is_on_a_replica(own: OwnStack) -> None:
    primary, (name, other) = roles(own)
    writer = Writer(own)
    with writer.writing():
        freeze(pid_of(own, primary))
        done = command(own, "promote", name)

    assert done["was_planned"] is False
    assert writer.missing() == set()
    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_a_server_is_removed_and_the_last_is_not(own: OwnStack) -> None:
    primary, (name, other) = roles(own)

    assert command(own, "remove", name) == {"name": name}

    assert not (own.state_dir / name).exists()
    assert_well(own, primary=primary, replicas=[other])
    last = own.manage("replicas", "remove", other)
    assert last.returncode == 1
    assert "the only replica" in last.stderr


@pytest.mark.parametrize(
    ("name", "why"), [("postgres77", "no server postgres77"), ("../media", "no server's name")]
)
def test_what_is_no_replica_is_not_removed(own: OwnStack, name: str, why: str) -> None:
    with held(own) as running, pytest.raises(ClusterError, match=why):
        remove(running, name)


def test_the_primary_is_not_removed_and_what_is_no_replica_not_promoted(own: OwnStack) -> None:
    primary, _ = roles(own)
    with held(own) as running:
        with pytest.raises(ClusterError, match=f"{primary} is the primary"):
            remove(running, primary)
        with pytest.raises(ClusterError, match="no replica postgres77"):
            promoting.promote(running, "postgres77")


def test_two_commands_do_not_work_at_once(own: OwnStack) -> None:
    with held(own):
        refused = own.manage("replicas", "add")
    assert refused.returncode == 1
    assert f"is running (process {os.getpid()}" in refused.stderr


def test_without_a_stack_there_is_nothing_to_change(own: OwnStack) -> None:
    own.stop()
    with pytest.raises(ClusterError, match="No stack is running"), held(own):
        pass
