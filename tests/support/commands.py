"""Commands of `manage.py` without the seconds that every start of Python and Django takes.

One process imports Headrace and forks for each command, so that each has a process of its own,
with connections of its own, as at a terminal. `python -m tests.support.commands` is that process.

Headrace is imported in it alone: the plugin, which must not import it, uses this module.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]


class Commands:
    """The process of a running stack; what it knows of the stack is as it was at the first use."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._lock = threading.Lock()
        self._process = self._start()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with tempfile.TemporaryDirectory(prefix="headrace-command-") as directory, self._lock:
            files = [Path(directory, name) for name in ("out", "err")]
            order = {"words": words, "files": [str(file) for file in files]}
            try:
                code = self._answer(json.dumps(order))
            except BaseException:
                # The answer to a command that took too long must not be taken for the next one's.
                os.killpg(self._process.pid, signal.SIGKILL)
                self.close()
                self._process = self._start()
                raise
            out, err = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands"],
            cwd=BASE_DIR,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _answer(self, order: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(order, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def serve() -> None:
    """Run the commands that standard input orders, and answer each with its exit code."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.urls import get_resolver

    import manage

    # Django's checks, which come before most commands, would import it again in each fork.
    assert get_resolver().url_patterns
    # A fork that collected what it shares with this process would copy it first.
    gc.freeze()
    while line := sys.stdin.readline():
        order = json.loads(line)
        # Locks that another thread holds would stay locked in the child.
        assert threading.active_count() == 1
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, name in enumerate(order["files"], start=1):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), number)
            sys.argv = ["manage.py", *order["words"]]
            manage.main()
            # The interpreter ends as after any command.
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
