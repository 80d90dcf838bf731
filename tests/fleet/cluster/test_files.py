"""The files that the stack writes, and how it reads those it finds."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from config.env import read_stack_env
from fleet.cluster import binaries, credentials, lock, overrides, ports, processes, state_file
from fleet.cluster.console import Console, LogFollower, last_lines
from fleet.cluster.errors import ClusterError, StopRequested
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.state_file import ProcessId, StackRecord
from fleet.cluster.stop import kill

if TYPE_CHECKING:
    from pathlib import Path

PART = processes.ProcessSpec(name="node1", kind="node", address="127.0.0.1:20001")


def test_stack_env_reads_values_with_equal_signs_and_an_absent_file_is_empty(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stack.env"
    assert read_stack_env(path) == {}

    write_private(path, "PORT=8000\nDATABASE_URL=postgresql://a:b@c/d?x=y\n\n")

    assert read_stack_env(path) == {"PORT": "8000", "DATABASE_URL": "postgresql://a:b@c/d?x=y"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    program = processes.Program(command=["a program", "100%"], environment={"NAME": "v"})
    path = tmp_path / "node1.conf"
    path.write_text(processes.render(PART, program, log_file=tmp_path / "node1.log"))

    assert processes.read_all(tmp_path) == [PART]
    assert "command='a program' 100%%" in path.read_text()


def test_sockets_have_a_short_path_when_the_state_directory_is_deep(tmp_path: Path) -> None:
    deep = Layout(state_dir=tmp_path / ("x" * 100))
    deep.create()

    assert len(str(deep.supervisor_socket)) < 60
    assert deep.socket_dir.stat().st_mode & 0o777 == 0o700
    deep.socket_dir.rmdir()


def test_a_directory_with_a_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="STATE_DIR"):
        Layout(state_dir=tmp_path / "it's").create()


def test_credentials_are_created_once_and_stored(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = credentials.load(path)

    assert credentials.load(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    credentials.save_demo_key(path, key_id="key_1", key="hr_1")
    assert credentials.load(path).demo_key == "hr_1"
    assert credentials.load(path).postgres_password == made.postgres_password


def test_credentials_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")

    with pytest.raises(ClusterError, match=r"secrets\.json"):
        credentials.load(path)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = ProcessId.of(os.getpid())
    assert own
    written = StackRecord(pid=1, url="u", supervisord=own, processes={"a": own}, restarts={"a": 2})
    written.save(tmp_path / "stack.json")

    assert state_file.load(tmp_path / "stack.json") == written
    assert state_file.load(tmp_path / "nothing.json") is None


def test_changed_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    layout = Layout(state_dir=tmp_path)
    layout.create()
    assert overrides.load(layout) == {}

    overrides.attempt(layout, overrides.parse(["LLM_MODEL=openai:a=b", "LLM_BASE_URL="]))

    assert overrides.load(layout) == {"LLM_MODEL": "openai:a=b", "LLM_BASE_URL": ""}


def test_changed_settings_are_committed_or_rolled_back(tmp_path: Path) -> None:
    layout = Layout(state_dir=tmp_path)
    layout.create()
    overrides.attempt(layout, {"A": "1", "B": "1"})
    overrides.commit(layout)
    overrides.attempt(layout, {"B": "2"})
    assert overrides.load(layout) == {"A": "1", "B": "2"}

    overrides.roll_back(layout)
    assert overrides.load(layout) == {"A": "1", "B": "1"}
    overrides.roll_back(layout)
    assert overrides.load(layout) == {"A": "1", "B": "1"}


@pytest.mark.parametrize("given", ["LLM_MODEL", "llm_model=a", "PORT=1", 'LLM_MODEL="a"'])
def test_settings_that_cannot_be_changed_are_named(given: str) -> None:
    with pytest.raises(ClusterError, match=given.split("=", maxsplit=1)[0]):
        overrides.parse([given])


def test_a_process_that_got_the_pid_of_a_recorded_one_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        created = psutil.Process(other.pid).create_time()

        kill([ProcessId(pid=other.pid, created=created - 60)])
        assert other.poll() is None

        kill([ProcessId(pid=other.pid, created=created)])
        assert not psutil.pid_exists(other.pid)


def test_the_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "up.lock"
    assert lock.holder(path) is None
    with lock.hold(path):
        assert lock.holder(path) == os.getpid()
        with pytest.raises(ClusterError, match=str(os.getpid())), lock.hold(path):
            pass
    assert lock.holder(path) is None


def test_free_ports_are_different_and_none_is_avoided() -> None:
    avoid = set(ports.FREE_PORTS) - {20_001, 20_002, 20_003, 20_004}

    chosen = ports.free_ports(2, avoid=avoid)

    assert len(set(chosen)) == 2
    assert not avoid & set(chosen)


def test_a_program_on_path_must_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "thing"
    program.write_text("#!/bin/sh\necho thing 2.5.1 of today\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert binaries.version_of(program) == (2, 5, 1)
    assert binaries.from_path("thing", minimum=(2, 5)) == program
    assert binaries.from_path("thing", minimum=(2, 6)) is None
    assert binaries.from_path("no-such-thing", minimum=(1,)) is None
    with pytest.raises(ClusterError, match="EMBEDDED_HAPROXY=/nowhere"):
        binaries.from_setting("EMBEDDED_HAPROXY", "/nowhere")


def test_a_log_is_followed_over_its_rotation_from_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "redis.log"
    path.write_text("yesterday\n")
    follower = LogFollower(path)

    with path.open("a") as log:
        log.write("one\ntwo, in par")
    assert follower.lines() == ["one"]
    with path.open("a") as log:
        log.write("ts\n")
    path.rename(tmp_path / "redis.log.1")
    path.write_text("three\n")
    assert follower.lines() == ["two, in parts", "three"]
    assert last_lines(path, 5) == ["three"]


def test_a_log_that_begins_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path / "node1.log")
    assert follower.lines() == []
    (tmp_path / "node1.log").write_text("first\n")

    assert follower.lines() == ["first"]


@pytest.mark.parametrize(
    ("has_colours", "line"),
    [(False, "node2     | ready\n"), (True, "\x1b[32mnode2     |\x1b[0m ready\n")],
)
def test_lines_are_coloured_by_part_on_a_terminal_and_plain_in_a_pipe(
    has_colours: bool, line: str
) -> None:
    stream = io.StringIO()
    Console(stream=stream, has_colours=has_colours).print("ready", process="node2")

    assert stream.getvalue() == line


def test_a_reader_that_left_asks_for_the_stop_once() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    console = Console(stream=Closed(), has_colours=False)

    with pytest.raises(StopRequested):
        console.print("anybody?")
    console.print("nobody")
