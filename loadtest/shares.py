"""`python -m loadtest.shares`: the processor time that each part of the stack takes for a request.

A plan for many machines begins with these figures. What the processes use while no request is sent
to them is taken off.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from loadtest import wrk
from loadtest.servers import Headrace, headrace
from loadtest.settings import QUESTION

PARTS = ("node1", "haproxy", "redis", "postgres1", "worker1")
CONNECTIONS = 16
WARM_UP_SECONDS = 2


def main() -> None:
    """Measure each kind of request, and print a table of microseconds of CPU time a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="length of each run")
    seconds: int = parser.parse_args().seconds
    wrk.require()
    with headrace(nodes=1, workers=1) as ours:
        pids = {name: int(ours.part(name)["pid"]) for name in PARTS}
        print(f"| request | {' | '.join(PARTS)} |\n|{' --- |' * (len(PARTS) + 1)}")
        before = cpu_seconds(pids)
        time.sleep(seconds)
        idle = since(before, pids)
        for name, load in kinds(ours).items():
            load(WARM_UP_SECONDS)
            settle(ours)
            began, before = time.monotonic(), cpu_seconds(pids)
            requests = load(seconds).requests
            settle(ours)
            used, took = since(before, pids), time.monotonic() - began
            own = (max(0.0, used[part] - idle[part] * took / seconds) for part in PARTS)
            cells = (f"{part_seconds / requests * 1e6:.0f}" for part_seconds in own)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def kinds(ours: Headrace) -> dict[str, Callable[[int], wrk.Load]]:
    """Return what loads the stack for some seconds, by the kind of request."""
    said = {"messages": [{"role": "user", "content": QUESTION}]}
    conversation = post(ours, "/v1/conversations", {"chain": "fake-chat"})["id"]
    messages = f"/v1/conversations/{conversation}/messages"

    def at(path: str, body: Mapping[str, Any], connections: int = CONNECTIONS) -> Any:
        return lambda seconds: wrk.post(
            ours.url + path,
            body=json.dumps(body),
            key=ours.key,
            connections=connections,
            seconds=seconds,
        )

    chat = "/v1/chat/completions"
    return {
        "chat, cached": at(chat, {"model": "cached-chat", **said}),
        "chat, uncached": at(chat, {"model": "fake-chat", **said}),
        "chat, uncached stream": at(chat, {"model": "fake-chat", "stream": True, **said}),
        # One after another: a conversation answers one message at a time.
        "message of a conversation": at(messages, {"content": QUESTION}, 1),
        "job, submitted and run": at("/v1/jobs", {"chain": "trivial", "input": "x"}),
    }


def settle(ours: Headrace) -> None:
    """Wait until no job waits or runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        jobs = [get(ours, f"/v1/jobs?limit=1&status={status}") for status in ("queued", "running")]
        if not any(listed["data"] for listed in jobs):
            return
        time.sleep(0.5)


def since(before: Mapping[str, float], pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time that each part has used since."""
    return {part: after - before[part] for part, after in cpu_seconds(pids).items()}


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time of each part so far, that of its living children included."""
    return {name: sum(map(_cpu_of, _family(pid))) for name, pid in pids.items()}


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    used: float = times.user + times.system
    return used


def get(ours: Headrace, path: str) -> Any:
    """Return the JSON at a path."""
    return _call(ours, path, None)


def post(ours: Headrace, path: str, body: Mapping[str, Any]) -> Any:
    """Return the JSON that answers a POST."""
    return _call(ours, path, json.dumps(body).encode())


def _call(ours: Headrace, path: str, body: bytes | None) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ours.key}"}
    request = urllib.request.Request(ours.url + path, body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)


if __name__ == "__main__":
    main()
