"""The foreground of a stack: bring it up, follow its logs and processes, bring it down."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from fleet.cluster import cleanup, credentials, lock
from fleet.cluster.banner import welcome
from fleet.cluster.console import Console, LogFollower, last_lines
from fleet.cluster.errors import ClusterError, ProcessFailed, StopRequested
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.plan import Plan, has_orphaned_data, make_plan
from fleet.cluster.privileges import check_privileges
from fleet.cluster.processes import read_all
from fleet.cluster.restart_monitor import Watch
from fleet.cluster.startup import BringUp, PrepareProcess
from fleet.cluster.state_file import ProcessId, StackRecord
from fleet.cluster.stop import kill, stop_processes
from fleet.cluster.supervisord import Supervisord, SupervisorGone
from node.open_files import raise_open_files_limit

WATCH_SECONDS = 0.25
LAST_LINES = 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack:
    """One `cluster up`, from its first line to the last process gone."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self.layout = layout
        self.console = console
        self.supervisord = Supervisord(layout)
        self._stop = threading.Event()
        self._watch = Watch()
        self._followers: dict[str, LogFollower] = {}
        self._next_look = 0.0
        self._record = StackRecord(pid=os.getpid(), url="")
        self._is_saved = True

    def up(
        self,
        *,
        nodes: int,
        workers: int,
        replicas: int | None,
        with_llm: bool,
        with_autoscaler: bool = False,
    ) -> None:
        """Run the stack until a signal stops it; raise `ClusterError` when it cannot go on."""
        os.umask(0o077)
        self.layout.create()
        with lock.hold(self.layout.lock_file), self._signals():
            if cleanup.leftovers_exist(self.layout):
                self.console.print("cleaning up after a stack that was killed")
                cleanup.clean_up(self.layout, on_progress=self.console.print)
                # The settings were read from that stack's file; begin again without it.
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
            check_privileges()
            if has_orphaned_data(self.layout):
                raise ClusterError(
                    f"{self.layout.secrets_file} is missing, and with it the password of the "
                    f"database; bring it back, or remove {self.layout.state_dir} to start empty."
                )
            stored = credentials.load(self.layout.secrets_file)
            plan = make_plan(
                self.layout,
                stored,
                nodes=nodes,
                workers=workers,
                replicas=replicas,
                with_llm=with_llm,
                with_autoscaler=with_autoscaler,
            )
            with contextlib.suppress(StopRequested):
                self._run(plan)

    def _run(self, plan: Plan) -> None:
        self._record.url = plan.url
        self._record.save(self.layout.record_file)
        try:
            raise_open_files_limit()
            if plan.servers:
                plan.servers.publish()
            lines = [f"{name}={value}" for name, value in plan.environment.items()]
            write_private(self.layout.env_file, "\n".join(lines) + "\n")
            process = self.supervisord.start()
            self._record.supervisord = ProcessId.of(process.pid)
            self._record.save(self.layout.record_file)
            with PrepareProcess(self.layout) as prepare:
                BringUp(
                    plan,
                    supervisord=self.supervisord,
                    console=self.console,
                    prepare=prepare,
                    pause=self._pause,
                ).run()
            self._record.is_ready = True
            self._record.save(self.layout.record_file)
            self.console.block(welcome(plan, credentials.load(self.layout.secrets_file)))
            while True:
                self._pause(WATCH_SECONDS)
        except ProcessFailed as error:
            self._show_last_lines(error.process)
            raise ClusterError(f"{error.process}: {error}; the stack stops.") from error
        finally:
            self._down()

    def _pause(self, seconds: float) -> None:
        """Wait, and restart processes that die."""
        if self._stop.wait(seconds):
            raise StopRequested
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + WATCH_SECONDS
            self._look()
        self._follow_logs()

    def _look(self) -> None:
        """Report processes that died; raise `ProcessFailed` for one that fails repeatedly."""
        try:
            processes = self.supervisord.processes()
        except SupervisorGone as error:
            raise ClusterError("supervisord was killed; the stack stops.") from error
        changes = self._watch.observe(processes, now=time.monotonic())
        for change in changes:
            self.console.print(change.text, process=change.process)
            if change.is_final:
                raise ProcessFailed(change.process, change.text)
        pids = {process.name: process.pid for process in processes if process.pid}
        known = {name: identity.pid for name, identity in self._record.processes.items()}
        if pids != known or not self._is_saved:
            found = {name: ProcessId.of(pid) for name, pid in pids.items()}
            self._record.processes = {name: one for name, one in found.items() if one}
            self._record.restarts = self._watch.restarts
            self._save_record()
        for name in pids.keys() - self._followers.keys():
            self._followers[name] = LogFollower(self.layout.log_file(name))

    def _save_record(self) -> None:
        """Write the record, or retry it at the next look: a full disk must not end a stack."""
        try:
            self._record.save(self.layout.record_file)
        except OSError as error:
            if self._is_saved:
                self.console.print(f"{self.layout.record_file} cannot be written: {error}")
            self._is_saved = False
        else:
            self._is_saved = True

    def _follow_logs(self) -> None:
        for name, follower in self._followers.items():
            for line in follower.lines():
                self.console.print(line, process=name)

    def _show_last_lines(self, process: str) -> None:
        self.console.print(f"the last lines of {process}:")
        for line in last_lines(self.layout.log_file(process), LAST_LINES):
            self.console.print(line, process=process)

    def _down(self) -> None:
        """Stop everything and leave no process and no file that says it runs."""
        started = time.monotonic()
        specs = read_all(self.layout.specs_dir)
        left = stop_processes(self.supervisord, specs, on_progress=self.console.print)
        if self._record.supervisord:
            left.append(self._record.supervisord)
        kill(left)
        cleanup.clean_up(self.layout, on_progress=self.console.print)
        self.console.print(f"stopped in {time.monotonic() - started:.1f} s")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle Ctrl-C, SIGTERM and a closed terminal as a request to stop, at any time."""

        def request_stop(number: int, frame: FrameType | None) -> None:
            self._stop.set()

        before = {number: signal.signal(number, request_stop) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
