"""Run wrk, a load generator that leaves the CPU to what it measures."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    )


def get(url: str, *, key: str, connections: int, seconds: int, expect: str) -> Load:
    """GET over persistent connections, as `post` does."""
    return _run(url, key=key, connections=connections, seconds=seconds, options={"EXPECT": expect})


def _run(
    url: str, *, key: str, connections: int, seconds: int, options: Mapping[str, object]
) -> Load:
    environment = {**os.environ, **({"KEY": key} if key else {})}
    environment |= {name: str(value) for name, value in options.items()}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(SCRIPT), url]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds + 30, check=True
    )
    load = Load(**json.loads(done.stdout.strip().splitlines()[-1]))
    if load.bad_statuses or load.failures or load.wrong:
        raise RuntimeError(
            f"{url}: {load.bad_statuses} bad statuses, {load.failures} failures,"
            f" {load.wrong} wrong answers"
        )
    return load
