"""Database servers that come, go and are promoted while a stack runs.

The tests share one stack and its servers; each takes the roles as it finds them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg
import pytest

from scaling.cluster.layout import Layout
from scaling.cluster.supervisord import Supervisord
from tests.scaling.conftest import OwnStack, eventually
from tests.stack_plugin import MANAGE

ARGUMENTS = ("--no-llm", "--nodes=1", "--workers=0")


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


class Writer:
    """Writes rows one by one to whichever server is the primary, and remembers the acknowledged."""

    number = 0

    def __init__(self, own: OwnStack) -> None:
        Writer.number += 1
        self.writer = Writer.number
        self.own = own
        self.acknowledged: list[int] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write meanwhile, and until a row has been written after it."""
        self._thread.start()
        self._await_more()
        try:
            yield
            self._await_more()
        finally:
            self._is_over.set()
            self._thread.join()

    def missing(self) -> set[int]:
        """Return the acknowledged rows that the primary does not have."""
        with psycopg.connect(self.own.database_url) as connection:
            rows = connection.execute("SELECT number FROM kept WHERE writer = %s", [self.writer])
            return set(self.acknowledged) - {row[0] for row in rows}

    def _await_more(self) -> None:
        before = len(self.acknowledged)
        eventually(
            lambda: len(self.acknowledged) > before + 20, seconds=20, what="rows are written"
        )

    def _run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            # As the processes of the stack will: the file says where to write.
            with contextlib.suppress(psycopg.Error):
                self._write_from(number)
            number = max([number, *self.acknowledged[-1:]]) + 1
            time.sleep(0.02)

    def _write_from(self, number: int) -> None:
        options = "-c statement_timeout=5000"
        with psycopg.connect(
            self.own.database_url, autocommit=True, connect_timeout=2, options=options
        ) as connection:
            while not self._is_over.is_set():
                number += 1
                connection.execute("INSERT INTO kept VALUES (%s, %s)", [self.writer, number])
                self.acknowledged.append(number)


def roles(own: OwnStack) -> tuple[str, list[str]]:
    """Return the primary's name and the replicas'."""
    record = json.loads((own.state_dir / "topology.json").read_text())
    return record["primary"], record["replicas"]


def promote(own: OwnStack, name: str) -> dict[str, Any]:
    """Promote a server and return what the command says."""
    done = own.manage("replicas", "promote", name, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def assert_well(own: OwnStack, *, primary: str, replicas: list[str]) -> None:
    """Fail unless these servers have these roles, everywhere where roles are told or lived."""
    assert roles(own) == (primary, replicas)
    parts = [part for part in own.status()["parts"] if part["name"].startswith("postgres")]
    assert {part["name"]: part["kind"] for part in parts} == {
        primary: "primary",
        **dict.fromkeys(replicas, "replica"),
    }
    addresses = {part["name"]: part["address"] for part in parts}
    assert f"@{addresses[primary]}/" in own.database_url
    assert {name: f"@{addresses[name]}/" in url for name, url in own.replica_urls.items()} == (
        dict.fromkeys(replicas, True)
    )
    for file in ("run/database.url", "run/replicas.urls", "topology.json"):
        assert (own.state_dir / file).stat().st_mode & 0o077 == 0, file
    with psycopg.connect(own.database_url) as connection:
        (is_in_recovery,) = connection.execute("SELECT pg_is_in_recovery()").fetchone() or ()
        assert is_in_recovery is False
        slots = connection.execute(
            "SELECT slot_name, active FROM pg_replication_slots ORDER BY slot_name"
        ).fetchall()
        assert slots == [(name, True) for name in replicas]
        streaming = connection.execute(
            "SELECT application_name, state FROM pg_stat_replication ORDER BY application_name"
        ).fetchall()
        assert streaming == [(name, "streaming") for name in replicas]
    for url in own.replica_urls.values():
        with psycopg.connect(url) as connection:
            (slots_left,) = (
                connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() or ()
            )
            assert slots_left == 0


def pid_of(own: OwnStack, name: str) -> int:
    """Return the process of a server."""
    pid: int = own.part(name)["pid"]
    return pid


def test_a_server_is_added(own: OwnStack) -> None:
    added = own.manage("replicas", "add", "--json")

    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout) == {"name": "postgres3"}
    assert "postgres3: copied the primary" in added.stderr
    assert_well(own, primary="postgres1", replicas=["postgres2", "postgres3"])
    assert own.answers()


def test_nothing_is_lost_when_the_primary_lives(own: OwnStack) -> None:
    writer = Writer(own)
    # A replica that lags has received everything, and replays it before it takes the role.
    with psycopg.connect(own.replica_urls["postgres2"], autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET recovery_min_apply_delay = '1min'")
        connection.execute("SELECT pg_reload_conf()")

    with writer.writing():
        done = promote(own, "postgres2")

    assert (done["primary"], done["old_primary"]) == ("postgres2", "postgres1")
    assert (done["was_planned"], done["lost_commits"]) == (True, 0)
    assert done["replicas"]["postgres3"] == "follows"
    assert writer.missing() == set()
    assert_well(own, primary="postgres2", replicas=["postgres1", "postgres3"])


def test_a_server_keeps_its_own_settings_when_it_joins_again(own: OwnStack) -> None:
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


def test_a_server_that_is_frozen_meanwhile_follows_later(own: OwnStack) -> None:
    pid = pid_of(own, "postgres2")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = promote(own, "postgres1")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert done["replicas"]["postgres2"] == "gives no answer"

    def follows() -> bool:
        with psycopg.connect(own.database_url) as connection:
            query = "SELECT 1 FROM pg_stat_replication WHERE application_name = 'postgres2'"
            return connection.execute(query).fetchone() is not None

    eventually(follows, seconds=20, what="postgres2 follows")
    assert promote(own, "postgres1")["old_primary"] is None
    assert_well(own, primary="postgres1", replicas=["postgres2", "postgres3"])


@pytest.mark.parametrize("line", ["stopping, so that", "promoted", "takes the writes", "rewound"])
def test_a_promotion_that_was_killed_is_ended_by_the_next(own: OwnStack, line: str) -> None:
    primary, (name, other) = roles(own)
    writer = Writer(own)
    with writer.writing():
        kill_at(own, line, name)

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
    kill_at(own, "stopping, so that", primary)
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
        for process in [
            *psutil.Process(pid_of(own, primary)).children(),
            psutil.Process(pid_of(own, primary)),
        ]:
            process.suspend()
        done = promote(own, name)

    assert done["was_planned"] is False
    assert writer.missing() == set()
    assert_well(own, primary=name, replicas=sorted([primary, other]))


def test_a_server_is_removed_and_the_primary_is_not(own: OwnStack) -> None:
    primary, (name, other) = roles(own)

    refused = own.manage("replicas", "remove", primary)
    removed = own.manage("replicas", "remove", name)
    last = own.manage("replicas", "remove", other)

    assert refused.returncode == 1
    assert f"{primary} is the primary" in refused.stderr
    assert removed.returncode == 0, removed.stderr
    assert not (own.state_dir / name).exists()
    assert last.returncode == 1
    assert "the only replica" in last.stderr
    assert_well(own, primary=primary, replicas=[other])


def test_wrong_names_are_told(own: OwnStack) -> None:
    for verb in ("remove", "promote"):
        assert "no replica postgres77" in (
            own.manage("replicas", verb, "postgres77").stderr.replace("server", "replica")
        )
    assert "no server's name" in own.manage("replicas", "remove", "../media").stderr


def test_without_a_stack_there_is_nothing_to_change(own: OwnStack) -> None:
    own.stop()
    for arguments in (("add",), ("remove", "postgres2"), ("promote", "postgres2")):
        done = own.manage("replicas", *arguments)
        assert done.returncode == 1
        assert "No stack is running" in done.stderr


def kill_at(own: OwnStack, line: str, name: str) -> None:
    """Begin a promotion, and kill the command once it has said something."""
    with subprocess.Popen(
        [*MANAGE, "replicas", "promote", name], env=own.env, stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        for said in command.stdout:
            if line in said:
                break
        else:
            pytest.fail(f"it never said {line!r}")
        command.kill()
    # What it began to stop, stops.
    supervisord = Supervisord(Layout(state_dir=own.state_dir))
    eventually(
        lambda: all(process.state != "stopping" for process in supervisord.processes()),
        seconds=10,
        what="nothing is stopping",
    )
