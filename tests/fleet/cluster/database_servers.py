"""Means of tests to promote database servers, to hurt them, and to see that all is well."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import psutil
import psycopg
import pytest

from fleet.cluster.paths import Layout
from fleet.cluster.replicas import promote as promoting
from fleet.cluster.replicas.running import RunningStack, hold
from fleet.cluster.supervisord import Supervisord
from tests.stack_plugin import MANAGE
from tests.support.own_stack import OwnStack
from tests.support.waiting import eventually


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
        """Write during the block, and until a row has been written after it."""
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
    """Promote a server without the second that a command takes."""
    with held(own) as running:
        return promoting.promote(running, name).as_dict()


def held(own: OwnStack) -> AbstractContextManager[RunningStack]:
    """Return the stack's servers as the commands see them."""
    return hold(Layout(state_dir=own.state_dir), on_progress=print)


def command(own: OwnStack, *arguments: str) -> dict[str, Any]:
    """Run a command of `replicas` and return what it printed."""
    done = own.manage("replicas", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def freeze(pid: int) -> None:
    """Freeze a server with all its processes."""
    for process in [*psutil.Process(pid).children(), psutil.Process(pid)]:
        process.suspend()


def thaw(pid: int) -> None:
    """Resume a frozen server."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
        process.resume()


def assert_well(own: OwnStack, *, primary: str, replicas: list[str]) -> None:
    """Fail unless these servers have these roles, wherever roles are shown or have an effect."""
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


def cut_off(own: OwnStack, name: str) -> Writer:
    """Write some rows that one replica does not receive."""
    writer = Writer(own)
    with psycopg.connect(own.database_url, autocommit=True) as connection:
        query = "SELECT pg_terminate_backend(active_pid), active FROM pg_replication_slots"

        def is_dropped() -> bool:
            connection.execute(query + " WHERE slot_name = %s", [name])
            with contextlib.suppress(psycopg.errors.ObjectInUse):
                connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
                return True
            return False

        eventually(is_dropped, seconds=5, what="its slot is gone")
        for number in range(50):
            connection.execute("INSERT INTO kept VALUES (%s, %s)", [writer.writer, number])
            writer.acknowledged.append(number)
    return writer


def kill_at(own: OwnStack, line: str, *arguments: str) -> None:
    """Begin something, and kill the command once it has said something."""
    with subprocess.Popen(
        [*MANAGE, "replicas", *arguments], env=own.env, stdout=subprocess.PIPE, text=True
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
