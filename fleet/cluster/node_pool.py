"""The nodes and workers of the stack that runs, for commands that change them.

A process exists as long as its file in `supervisor.d`, so that a new size holds while the stack
runs; HAProxy's own state is in its state file.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings

from fleet.cluster import lock, overrides, state_file
from fleet.cluster.errors import ClusterError, ProcessFailed
from fleet.cluster.node import Node
from fleet.cluster.paths import Layout
from fleet.cluster.ports import free_ports
from fleet.cluster.processes import ProcessSpec, read_all
from fleet.cluster.replicas.running import until
from fleet.cluster.supervisord import Supervisord
from fleet.cluster.worker import Worker
from fleet.haproxy import HAProxyError, HAProxyUnavailable, RuntimeApi, ServerState

READY_SECONDS = 90.0
UP_SECONDS = 10.0
# supervisord kills what is late; this is for supervisord.
LATE_SECONDS = 5.0
# supervisord starts HAProxy again at once; it answers within one.
RETURN_SECONDS = 5.0
POLL_SECONDS = 0.05
BUSY = (
    "Another command changes the nodes or workers (process {pid}, STATE_DIR={state_dir}); "
    "wait for it."
)

NodeOrWorker = Node | Worker
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """Nodes and workers, under a lock against other commands; `on_progress` gets each step."""

    layout: Layout
    supervisord: Supervisord
    api: RuntimeApi
    on_progress: Callable[[str], None]

    def of_kind(self, kind: str) -> list[NodeOrWorker]:
        """Return the processes of a kind, `node` or `worker`, by their numbers."""
        found = [spec for spec in read_all(self.layout.specs_dir) if spec.kind == kind]
        return [
            node_or_worker(spec) for spec in sorted(found, key=lambda spec: number_of(spec.name))
        ]

    def find(self, name: str) -> NodeOrWorker:
        """Return a node or worker by its name; raise `ClusterError` when there is none."""
        processes = [*self.of_kind("node"), *self.of_kind("worker")]
        for one in processes:
            if one.id.name == name:
                return one
        names = ", ".join(one.id.name for one in processes)
        raise ClusterError(f"There is no node or worker {name}; there are {names}.")

    def new_ports(self, count: int) -> list[int]:
        """Return ports for new processes."""
        taken = {int(spec.address.rsplit(":", 1)[1]) for spec in read_all(self.layout.specs_dir)}
        return free_ports(count, avoid={settings.PORT, settings.STATS_PORT, *taken})

    # --- Processes ------------------------------------------------------------------------------
    def launch(self, *processes: NodeOrWorker) -> None:
        """Start processes that are new or stopped."""
        for one in processes:
            self.layout.drain_file(one.id.name).unlink(missing_ok=True)
            if self.supervisord.find(one.id.name) is not None:
                # One that failed may still be stopping; supervisord removes only what is stopped.
                self.stop(one)
                # Its command and environment may be others now.
                self.supervisord.remove(one.id.name)
            self.supervisord.add(one.id, one.program())

    def stop(self, *processes: NodeOrWorker) -> None:
        """Stop processes, all at once, and wait until they have finished their work."""
        for one in processes:
            self._halt(one.id.name)
        names = {one.id.name for one in processes}
        seconds = max(one.program().stop_seconds for one in processes) + LATE_SECONDS
        if not until(lambda: not names & self._living(), seconds=seconds):
            raise ClusterError(f"{', '.join(sorted(names & self._living()))} did not stop.")

    def remove(self, *processes: NodeOrWorker) -> None:
        """Remove processes that are stopped."""
        for one in processes:
            self.supervisord.remove(one.id.name)
            self.layout.drain_file(one.id.name).unlink(missing_ok=True)

    def dead(self, kind: str) -> list[NodeOrWorker]:
        """Return nodes or workers without a process, which will not restart by themselves."""
        living = self._living()
        return [one for one in self.of_kind(kind) if one.id.name not in living]

    def _living(self) -> set[str]:
        return {one.name for one in self.supervisord.processes() if not one.is_stopped}

    def await_ready(self, one: NodeOrWorker) -> None:
        """Wait for a process; stop it and raise `ProcessFailed` when it ends or takes too long."""
        name, pid = one.id.name, 0
        deadline = time.monotonic() + READY_SECONDS
        while not one.is_ready():
            process = self.supervisord.find(name)
            if process is None or not process.pid or (pid and process.pid != pid):
                problem = "ended"
            elif time.monotonic() > deadline:
                problem = f"was not ready in {READY_SECONDS:.0f} s"
            else:
                pid = process.pid
                time.sleep(POLL_SECONDS)
                continue
            # Before supervisord has restarted it so often that the stack would end.
            self._halt(name)
            raise ProcessFailed(name, f"{name} {problem}; see {self.layout.log_file(name)}")

    def _halt(self, name: str) -> None:
        """Stop a process by supervisord, also one that is just being started again."""

        def is_stopping() -> bool:
            self.supervisord.request_stop(name)
            process = self.supervisord.find(name)
            return process is None or process.is_stopped or process.state == "stopping"

        until(is_stopping, seconds=LATE_SECONDS)

    # --- Rotation -------------------------------------------------------------------------------
    def enter(self, node: NodeOrWorker) -> None:
        """Add a node that is ready to HAProxy's rotation, and wait until it is there."""
        name = node.id.name
        host, port = node.id.address.rsplit(":", 1)
        self.layout.drain_file(name).unlink(missing_ok=True)
        self._patiently(lambda: self.api.add(name, host=host, port=int(port)))
        if not until(lambda: name in self.in_rotation(), seconds=UP_SECONDS):
            raise ClusterError(f"HAProxy does not find {name} healthy; it gets no requests.")

    def leave(self, *nodes: NodeOrWorker) -> None:
        """Drain nodes: HAProxy sends no more, and they finish what they have."""
        for node in nodes:
            self._set_state(node, ServerState.DRAIN)
            self.layout.drain_file(node.id.name).touch(mode=0o600)

    def close(self, *nodes: NodeOrWorker) -> None:
        """Free the HAProxy slots of nodes that have ended."""
        for node in nodes:
            self._set_state(node, ServerState.MAINT)

    def out_of_use(self) -> set[str]:
        """Return the names of the slots that HAProxy neither sends to nor drains."""
        servers = self._patiently(self.api.servers)
        return {server.name for server in servers if server.state == ServerState.MAINT}

    def in_rotation(self) -> set[str]:
        """Return the names of the nodes that HAProxy sends to."""
        return {
            server.name
            for server in self._patiently(self.api.servers)
            if server.state == ServerState.READY and server.is_up
        }

    def _set_state(self, node: NodeOrWorker, state: ServerState) -> None:
        self._patiently(lambda: self.api.set_state(node.id.name, state))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call HAProxy; one that died is back in a moment, with the servers as they were.

        All of `call` is repeated, because the address or state that it set may not have been saved.
        """
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                return call()
            except HAProxyUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def hold(layout: Layout, *, on_progress: Callable[[str], None]) -> Iterator[NodePool]:
    """Lock out other changes of nodes and workers; raise `ClusterError` without a stack."""
    last = state_file.load(layout.record_file)
    supervisord = Supervisord(layout)
    if last is None or not last.is_ready or not supervisord.is_alive():
        raise ClusterError(f"No stack is running (STATE_DIR={layout.state_dir}).")
    api = RuntimeApi(layout.haproxy_socket, state_file=layout.haproxy_state_file)
    with lock.hold(layout.pool_lock_file, taken=BUSY):
        overrides.roll_back(layout)
        try:
            yield NodePool(layout=layout, supervisord=supervisord, api=api, on_progress=on_progress)
        except HAProxyError as error:
            raise ClusterError(f"HAProxy refused a command: {error}") from error


def node_or_worker(spec: ProcessSpec) -> NodeOrWorker:
    """Return a node or worker by its name, kind and address."""
    return Node(id=spec) if spec.kind == "node" else Worker(id=spec)


def number_of(name: str) -> int:
    """Return the number in a process's name."""
    return int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))


def free_numbers(processes: Iterable[NodeOrWorker], count: int) -> list[int]:
    """Return the lowest numbers that no process has."""
    taken = {number_of(one.id.name) for one in processes}
    return [n for n in range(1, len(taken) + count + 1) if n not in taken][:count]
