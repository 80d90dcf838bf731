"""The paths of the stack's files below `STATE_DIR`."""

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleet.cluster.errors import ClusterError

# A unix socket's path has 108 bytes, its closing zero included; HAProxy and supervisord first bind
# a temporary name that is up to 16 bytes longer than the final one.
LONGEST_SOCKET_DIR = 107 - 16 - len("/supervisor.sock")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The paths of one stack; `create` makes the directories, closed to other users."""

    state_dir: Path

    @property
    def run_dir(self) -> Path:
        """Files that only matter while the stack runs, some of them secret."""
        return self.state_dir / "run"

    @property
    def log_dir(self) -> Path:
        """One log a process, rotated by supervisord."""
        return self.state_dir / "logs"

    @property
    def specs_dir(self) -> Path:
        """One supervisord configuration a process, which exists as long as its file."""
        return self.state_dir / "supervisor.d"

    @property
    def env_file(self) -> Path:
        """The settings that config/env.py reads, so that every command finds the running stack."""
        return self.state_dir / "stack.env"

    @property
    def secrets_file(self) -> Path:
        """Passwords and keys that were made on first use."""
        return self.state_dir / "secrets.json"

    @property
    def topology_file(self) -> Path:
        """Which PostgreSQL servers there are, and which is the primary."""
        return self.state_dir / "topology.json"

    @property
    def database_url_file(self) -> Path:
        """The primary's URL; every process of the stack watches it."""
        return self.run_dir / "database.url"

    @property
    def replica_urls_file(self) -> Path:
        """`NAME=URL` of each replica, a line each; every process of the stack watches it."""
        return self.run_dir / "replicas.urls"

    @property
    def lock_file(self) -> Path:
        """Locked as long as a `cluster up` lives; holds its pid."""
        return self.run_dir / "up.lock"

    @property
    def replicas_lock_file(self) -> Path:
        """Locked while servers are added, removed or promoted."""
        return self.run_dir / "replicas.lock"

    @property
    def pool_lock_file(self) -> Path:
        """Locked while nodes or workers are added, removed, drained or restarted."""
        return self.run_dir / "fleet.lock"

    @property
    def overrides_file(self) -> Path:
        """Settings that were changed while the stack runs: see `overrides`."""
        return self.run_dir / "overrides.json"

    @property
    def overrides_before_file(self) -> Path:
        """The overrides before an attempt to change them that is under way."""
        return self.run_dir / "overrides-before.json"

    @property
    def record_file(self) -> Path:
        """The running processes: see `state_file`."""
        return self.run_dir / "stack.json"

    @property
    def socket_dir(self) -> Path:
        """The run directory, or a short one under /tmp when its path is too long for a socket."""
        if len(os.fsencode(self.run_dir)) <= LONGEST_SOCKET_DIR:
            return self.run_dir
        digest = hashlib.sha256(os.fsencode(self.state_dir)).hexdigest()[:12]
        return Path(f"/tmp/headrace-{os.geteuid()}-{digest}")  # noqa: S108 - owner checked below

    @property
    def supervisor_socket(self) -> Path:
        """supervisord's XML-RPC."""
        return self.socket_dir / "supervisor.sock"

    @property
    def haproxy_socket(self) -> Path:
        """HAProxy's Runtime API."""
        return self.socket_dir / "haproxy.sock"

    @property
    def haproxy_state_file(self) -> Path:
        """HAProxy's servers as they were after the last change."""
        return self.run_dir / "haproxy.state"

    def drain_file(self, node: str) -> Path:
        """Return the file that, as long as it is there, makes a node say that it is not ready."""
        return self.run_dir / f"{node}.drain"

    def log_file(self, name: str) -> Path:
        """Return the log of a process."""
        return self.log_dir / f"{name}.log"

    def create(self) -> None:
        """Make the directories; raise `ClusterError` when they cannot be ours alone."""
        if any(word in str(self.state_dir) for word in ('"', "\\", "'", "\n", " ;", " #")):
            raise ClusterError(f"STATE_DIR={self.state_dir}: no quotes or comment signs, please")
        try:
            for path in (self.state_dir, self.run_dir, self.log_dir, self.specs_dir):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.socket_dir.mkdir(mode=0o700, exist_ok=True)
            found = self.socket_dir.lstat()
        except OSError as error:
            raise ClusterError(
                f"cannot make {error.filename}: {error.strerror}; set STATE_DIR to a directory "
                "that you may write"
            ) from error
        # All users write to /tmp: a directory that another one made there could steal the sockets.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ClusterError(f"{self.socket_dir} belongs to another user; remove it")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    # A full disk would be filled with the rest of each attempt.
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
