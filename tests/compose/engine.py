"""A container engine: the one that runs on this machine, or else one that is started for the tests.

Such a one has its data and its socket in a directory of its own, and is stopped by its process id.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.stack_plugin import CLEAN_ENVIRONMENT
from tests.support.waiting import slack

BASE_DIR = Path(__file__).resolve().parents[2]
PROGRAMS = ("dockerd", "docker", "docker-compose", "debootstrap", "iptables")
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class EngineMissing(Exception):
    """No engine can be started here; the text says why."""


class Engine:
    """A running engine, and how to run `docker` and `docker-compose` against it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.is_ours = directory is not None
        self.env = {**CLEAN_ENVIRONMENT, "DOCKER_BUILDKIT": "1"}
        if directory is not None:
            self.env["DOCKER_HOST"] = f"unix://{directory}/docker.sock"
            # A user's files for another engine must not be read here.
            self.env["DOCKER_CONFIG"] = str(directory / "client")

    def answers(self) -> bool:
        """Return whether there is an engine."""
        return bool(self.docker("info", "--format", "{{.ID}}", check=False).strip())

    def docker(self, *arguments: str, check: bool = True, timeout: float = 300) -> str:
        """Run `docker` and return what it printed; raises AssertionError with its complaint."""
        # Without the plug-in that newer clients want for BuildKit; `docker-compose` brings its own.
        env = {"DOCKER_BUILDKIT": "0"}
        return self.run("docker", *arguments, env=env, check=check, timeout=timeout)

    def run(
        self,
        *command: str,
        env: Mapping[str, str] = {},
        check: bool = True,
        timeout: float = 300,
    ) -> str:
        """Run a program against this engine, in the project's directory."""
        done = subprocess.run(
            command,
            cwd=BASE_DIR,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()[-60:]
            raise AssertionError(f"{' '.join(command[:8])}: {done.returncode}\n" + "\n".join(lines))
        return done.stdout


def found() -> Engine | None:
    """Return the engine that runs on this machine, if there is one."""
    if shutil.which("docker") is None or shutil.which("docker-compose") is None:
        return None
    engine = Engine()
    return engine if engine.answers() else None


def why_not() -> str:
    """Return why no engine can be started here, or ""."""
    if os.geteuid() != 0:
        return "an engine of the tests' own needs root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"there is no {', '.join(missing)} here"
    return ""


@contextmanager
def running(directory: Path) -> Iterator[Engine]:
    """Start an engine, and stop it at the end with all that runs in it.

    Raises EngineMissing when it does not start, as where the kernel refuses.
    """
    engine = Engine(directory)
    log = directory / "dockerd.log"
    # When this process is killed, the engine stops too, and its containers with it.
    setpriv = shutil.which("setpriv")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []),
                "dockerd",
                f"--host={engine.env['DOCKER_HOST']}",
                f"--data-root={directory}/data",
                f"--exec-root={directory}/exec",
                f"--pidfile={directory}/dockerd.pid",
                # Networks are made by name; the one by default would be shared between engines.
                "--bridge=none",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + slack(START_SECONDS)
        while not engine.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                raise EngineMissing("no engine starts here: " + " / ".join(lines[-2:]))
            time.sleep(0.2)
        yield engine
    finally:
        if process.poll() is None:
            containers = engine.docker("ps", "--quiet", check=False).split()
            if containers:
                engine.docker("rm", "--force", *containers, check=False)
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        unmount_below(directory)


def unmount_below(directory: Path) -> None:
    """Unmount what is mounted below a directory, the last first, so that it can be removed.

    An engine that has stopped leaves the network namespace of the machine (`exec/netns/default`),
    and one that was killed its containers' files too.
    """
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    # The fifth field is the mount point, with its spaces in octal.
    points = [Path(line.split()[4].replace("\\040", " ")) for line in mounts]
    for point in reversed([point for point in points if directory.resolve() in point.parents]):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
