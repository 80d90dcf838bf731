"""Start the processes: everything at once that does not need another process to be ready.

Most of the time goes into Python imports (nodes, `prepare`) and, on first use, into `initdb`,
`collectstatic` and the migrations, so these overlap as far as two cores allow.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from django.conf import settings

from fleet.cluster.console import Console
from fleet.cluster.errors import ProcessFailed
from fleet.cluster.paths import Layout
from fleet.cluster.plan import Plan
from fleet.cluster.postgres.replica import Joined, Replica
from fleet.cluster.postgres.servers import Servers
from fleet.cluster.processes import ManagedProcess, python_module
from fleet.cluster.replicas.fence import stop_server
from fleet.cluster.static_files import collect_if_changed
from fleet.cluster.supervisord import Supervisord

READY_SECONDS = 60.0
FOLLOW_SECONDS = 15.0
POLL_SECONDS = 0.05


class PrepareProcess:
    """The process that fills the database; ends with the `with` block at the latest."""

    def __init__(self, layout: Layout) -> None:
        with layout.log_file("prepare").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                python_module("fleet.cluster.prepare"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=settings.BASE_DIR,
                env={**os.environ, "STATE_DIR": str(layout.state_dir)},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def begin(self) -> None:
        """Signal that the database is there."""
        # A process that ended early has closed the pipe; `is_done` reports that.
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.write(b"go\n")
                self._process.stdin.close()

    def is_done(self) -> bool:
        """Return whether it has ended; raise `ProcessFailed` when it failed."""
        code = self._process.poll()
        if code:
            raise ProcessFailed("prepare", "the database could not be prepared")
        return code == 0


class BringUp:
    """One start of the stack.

    `pause` waits for its argument in seconds; it raises `StopRequested` when the stack is to stop,
    and `ProcessFailed` when a process fails repeatedly.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        supervisord: Supervisord,
        console: Console,
        prepare: PrepareProcess,
        pause: Callable[[float], None],
    ) -> None:
        self.plan = plan
        self.supervisord = supervisord
        self.console = console
        self.prepare = prepare
        self.pause = pause
        self.started_at = time.monotonic()

    def run(self) -> None:
        """Start all processes, and wait until they are ready; else raise `ProcessFailed`."""
        plan = self.plan
        for process in (plan.redis, plan.llm, plan.proxy):
            if process:
                self._start(process)
        if plan.servers:
            self._start_primary(plan.servers)
        self.prepare.begin()
        replicas = self._start_replicas(plan.servers) if plan.servers else []
        # The nodes read the list of static files when they start.
        if collect_if_changed():
            self.console.print("collected the static files")
        for node in plan.nodes:
            self._start(node)
        for worker in plan.workers:
            self._start(worker)
        self._rebuild_those_that_cannot_follow(replicas)
        # A node loads most of its code with the first request, so it gets one early.
        self._await(plan.redis, plan.proxy, plan.llm, *replicas, *plan.nodes)
        for replica in replicas:
            # A promotion that was cut short has made them.
            replica.drop_slots()
        while not self.prepare.is_done():
            self.pause(POLL_SECONDS)
        # They register in tables that `prepare` has made.
        self._await(*plan.workers)
        for node in plan.nodes:
            host, port = node.id.address.rsplit(":", 1)
            plan.proxy.api.add(node.id.name, host=host, port=int(port))
        if plan.autoscaler:
            self._start(plan.autoscaler)

    def _start_primary(self, servers: Servers) -> None:
        primary = servers.primary
        servers.check_data()
        if primary.create():
            self.console.print("created a new database cluster", process=primary.id.name)
        # From now on it is known which server has the data.
        servers.topology.save(servers.layout.topology_file)
        self._start(primary)
        self._await(primary)
        if primary.promote():
            self.console.print("finished its promotion", process=primary.id.name)
        primary.create_database()

    def _start_replicas(self, servers: Servers) -> list[Replica]:
        servers.primary.drop_slots(except_of=servers.topology.replicas)
        for replica in servers.replicas:
            if (how := replica.create()) != Joined.RESUMED:
                self.console.print(how, process=replica.id.name)
            self._start(replica)
        return servers.replicas

    def _rebuild_those_that_cannot_follow(self, replicas: list[Replica]) -> None:
        """Copy replicas again that answer and do not stream.

        One that was down during a promotion may have WAL that the new primary never had.
        """
        deadline = time.monotonic() + FOLLOW_SECONDS
        waiting = replicas
        while waiting := [replica for replica in waiting if not replica.is_ready()]:
            if time.monotonic() > deadline:
                break
            self.pause(POLL_SECONDS)
        for replica in waiting:
            if replica.is_in_recovery():
                stop_server(replica.id.name, replica.data_dir, self.supervisord)
                self.console.print(replica.create(from_scratch=True), process=replica.id.name)
                self.supervisord.start_again(replica.id.name)

    def _start(self, process: ManagedProcess) -> None:
        self.supervisord.add(process.id, process.program())

    def _await(self, *processes: ManagedProcess | None) -> None:
        deadline = time.monotonic() + READY_SECONDS
        # At the same time, because the check of a process that is not ready may be slow.
        with ThreadPoolExecutor() as threads:
            checks = {
                process.id.name: (process, threads.submit(process.is_ready))
                for process in processes
                if process
            }
            while checks:
                for name, (process, check) in list(checks.items()):
                    if check.done() and check.result():
                        del checks[name]
                        self._print_ready(process)
                    elif check.done():
                        checks[name] = (process, threads.submit(process.is_ready))
                self.prepare.is_done()
                if checks and time.monotonic() > deadline:
                    raise ProcessFailed(next(iter(checks)), "was not ready in time")
                if checks:
                    self.pause(POLL_SECONDS)

    def _print_ready(self, process: ManagedProcess) -> None:
        elapsed = time.monotonic() - self.started_at
        self.console.print(
            f"ready at {process.id.address} ({elapsed:.1f} s)", process=process.id.name
        )
