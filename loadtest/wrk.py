"""Run wrk, a load generator that leaves the CPU to what it measures."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 10
SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, kw_only=True)
class Load:
    """The results of one run of wrk; times in milliseconds, `max_ms` the slowest answer of all."""

    requests: int
    seconds: float
    bad_statuses: int
    failures: int
    # Answers without the text that each must hold, and those that came from the cache; counted only
    # when a text is expected.
    wrong: int = 0
    hits: int = 0
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def require() -> None:
    """End the program with a sentence when wrk is not there."""
    if shutil.which("wrk") is None:
        sys.exit("The benchmark needs wrk on PATH; on Debian: apt-get install wrk.")


def post(
    url: str,
    *,
    body: str,
    key: str = "",
    connections: int,
    seconds: int,
    expect: str = "",
    options: Mapping[str, object] = {},
    timeout_seconds: int = TIMEOUT_SECONDS,
) -> Load:
    """POST `body` over persistent connections, each as fast as it is answered.

    `expect` must stand in every answer; `options` are those of post.lua. Raises RuntimeError if wrk
    fails, or if any answer was wrong, not 2xx, or did not come.
    """
    return _run(
        url,
        key=key,
        connections=connections,
        seconds=seconds,
        options={"BODY": body, **({"EXPECT": expect} if expect else {}), **options},
        timeout_seconds=timeout_seconds,
    )


def get(url: str, *, key: str, connections: int, seconds: int, expect: str) -> Load:
    """GET over persistent connections, as `post` does."""
    return _run(url, key=key, connections=connections, seconds=seconds, options={"EXPECT": expect})


def mixed(url: str, *, bodies: Path, key: str, connections: int, seconds: int) -> Load:
    """POST the lines of a file by turns; answers of any status count.

    Raises RuntimeError if wrk fails, or if an answer did not come.
    """
    options = {"BODY_LINES": bodies}
    load = _load(url, key=key, connections=connections, seconds=seconds, options=options)
    if load.failures:
        raise RuntimeError(f"{url}: {load.failures} failures")
    return load


def refused(url: str, *, body: str, connections: int, seconds: int) -> Load:
    """POST with another wrong key each time.

    Raises RuntimeError if wrk fails, or if any answer was another than 401.
    """
    options = {"BODY": body, "WRONG_KEYS": 1}
    load = _load(url, key="", connections=connections, seconds=seconds, options=options)
    if load.bad_statuses != load.requests or load.failures or load.wrong:
        raise RuntimeError(f"{url}: {load.wrong} answers were not 401, {load.failures} failures")
    return load


def _run(
    url: str,
    *,
    key: str,
    connections: int,
    seconds: int,
    options: Mapping[str, object],
    timeout_seconds: int = TIMEOUT_SECONDS,
) -> Load:
    load = _load(
        url,
        key=key,
        connections=connections,
        seconds=seconds,
        options=options,
        timeout_seconds=timeout_seconds,
    )
    if load.bad_statuses or load.failures or load.wrong:
        raise RuntimeError(
            f"{url}: {load.bad_statuses} bad statuses, {load.failures} failures,"
            f" {load.wrong} wrong answers"
        )
    return load


def _load(
    url: str,
    *,
    key: str,
    connections: int,
    seconds: int,
    options: Mapping[str, object],
    timeout_seconds: int = TIMEOUT_SECONDS,
) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--timeout", f"{timeout_seconds}s", "-s", str(SCRIPT), url]
    environment = {**os.environ, **({"KEY": key} if key else {})}
    environment |= {name: str(value) for name, value in options.items()}
    with tempfile.NamedTemporaryFile() as file:
        # A variable of the environment holds 128 KiB.
        if (body := environment.pop("BODY", None)) is not None:
            file.write(body.encode())
            file.flush()
            environment["BODY_FILE"] = file.name
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + timeout_seconds + 30,
            check=True,
        )
    return Load(**json.loads(done.stdout.strip().splitlines()[-1]))
