"""One `cluster up` a state directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.cluster.errors import ClusterError

STACK_RUNS = (
    "A stack is already running here (process {pid}, STATE_DIR={state_dir}); "
    "stop it with `manage.py cluster down`, or choose another STATE_DIR and PORT."
)


@contextmanager
def hold(path: Path, *, taken: str = STACK_RUNS) -> Iterator[None]:
    """Hold the lock; raise `ClusterError` with the holder's pid when another process does.

    `taken` is what it says then.

    The kernel lets go of it when the process ends, however it ends, and no child inherits it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = _read_pid(handle)
        os.close(handle)
        raise ClusterError(taken.format(pid=pid, state_dir=path.parent.parent)) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(path: Path) -> int | None:
    """Return the pid of the living `cluster up`, or None."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        # A shared lock that is released at once never prevents a `cluster up`: `hold`
        # could only lose against it within these two calls.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(handle)
    finally:
        os.close(handle)
    return None


def _read_pid(handle: int) -> int:
    return int(os.pread(handle, 20, 0) or b"0")
