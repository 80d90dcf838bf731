"""The servers of the stack that runs, for commands that change them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from fleet.cluster import credentials, lock, state_file
from fleet.cluster.errors import ClusterError, ProcessFailed
from fleet.cluster.paths import Layout
from fleet.cluster.postgres import topology
from fleet.cluster.postgres.programs import find_bin
from fleet.cluster.postgres.replica import Replica
from fleet.cluster.postgres.servers import Servers
from fleet.cluster.processes import read_all
from fleet.cluster.replicas.fence import stop_server
from fleet.cluster.supervisord import Supervisord

STREAM_SECONDS = 60.0
POLL_SECONDS = 0.05
BUSY = (
    "Another `manage.py replicas` is running (process {pid}, STATE_DIR={state_dir}); wait for it."
)


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A stack whose servers no other command changes now; `on_progress` gets each step."""

    layout: Layout
    supervisord: Supervisord
    servers: Servers
    on_progress: Callable[[str], None]

    def start(self, replica: Replica, *, seconds: float = STREAM_SECONDS) -> None:
        """Start a stopped or a new server and wait until it streams; raise `ProcessFailed`."""
        if self.supervisord.find(replica.id.name) is None:
            self.supervisord.add(replica.id, replica.program())
        else:
            self.supervisord.describe(replica.id, replica.program())
            self.supervisord.start_again(replica.id.name)
        if not until(replica.is_ready, seconds=seconds):
            raise ProcessFailed(
                replica.id.name,
                f"{replica.id.name} did not begin to stream in {seconds:.0f} s; see "
                f"{self.layout.log_file(replica.id.name)}",
            )

    def stop(self, name: str) -> None:
        """Stop a server; none of its processes is left."""
        stop_server(name, self.layout.state_dir / name, self.supervisord)


@contextlib.contextmanager
def hold(layout: Layout, *, on_progress: Callable[[str], None]) -> Iterator[RunningStack]:
    """Lock out other commands' changes of the servers; raise `ClusterError` when there are none."""
    last = state_file.load(layout.record_file)
    supervisord = Supervisord(layout)
    if last is None or not last.is_ready or not supervisord.is_alive():
        raise ClusterError(f"No stack is running (STATE_DIR={layout.state_dir}).")
    if not layout.database_url_file.exists():
        raise ClusterError("The stack has no PostgreSQL of its own: DATABASE_URL names another.")
    with lock.hold(layout.replicas_lock_file, taken=BUSY):
        roles = topology.load(layout.topology_file) or topology.Topology()
        ports = {
            spec.name: int(spec.address.rsplit(":", 1)[1]) for spec in read_all(layout.specs_dir)
        }
        if missing := sorted(set(roles.names) - ports.keys()):
            raise ClusterError(f"{', '.join(missing)} is not there; start the stack again.")
        servers = Servers(
            layout=layout,
            credentials=credentials.load(layout.secrets_file),
            bin_dir=find_bin(),
            topology=roles,
            ports=ports,
        )
        try:
            yield RunningStack(
                layout=layout, supervisord=supervisord, servers=servers, on_progress=on_progress
            )
        except psycopg.Error as error:
            raise ClusterError(f"A server refused a command: {error}") from error


def until(check: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until something holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
