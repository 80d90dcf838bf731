"""Limits of the process that reads a PDF."""

import contextlib
import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
# The document, the answer and /dev/null.
INHERITED_FILES = 3
# Files that pypdf opens when it is imported.
MAX_FILES = 32


def limit(*, cpu_seconds: int, memory_bytes: int, nice: int) -> None:
    """Bound this process's resources, and drop privileges that it does not need."""
    libc = ctypes.CDLL(None)
    # A node that is killed leaves no reader behind.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for name in os.listdir("/proc/self/fd"):
        # The listing's own is closed by now.
        if int(name) >= INHERITED_FILES:
            with contextlib.suppress(OSError):
                os.close(int(name))
    # The node that waits for it has requests to answer.
    os.nice(nice)
    # In a container without memory the kernel is to end this process, and not the node.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    # Processor time: on a busy machine the document is not to blame for the clock time.
    # At the first limit the process ends by SIGXCPU, which distinguishes it from other ends.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
