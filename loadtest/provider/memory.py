"""Memory over many requests: a mix through two nodes and a worker, and a burst of large bodies."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psutil
from urllib3 import PoolManager

from loadtest import wrk
from loadtest.provider.stack import CHAT, MODEL, NEVER_REFUSES, headrace_with, provider, question
from loadtest.servers import Headrace
from loadtest.table import Row, print_progress

CONNECTIONS = 16
ROUND_SECONDS = 10
MAX_GROWTH = 0.02
# Of four bytes each: just under MAX_CONTENT_CHARS and MAX_BODY_BYTES.
LARGE_CHARACTERS = 990_000
BURST_SECONDS = 20
BURST_CONNECTIONS = 8
GIVEN_BACK_SECONDS = 60
MAX_AFTER_BURST = 1.3
DOCUMENT = b"A line of a document of plain text.\n" * 2_000
DOCUMENT_PAUSE_SECONDS = 0.5
PARTS = ("node1", "node2", "worker1")
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}


def measure(*, requests: int) -> list[Row]:
    """Return how each process's memory grows, and what it has a minute after a burst."""
    with (
        provider() as mock,
        headrace_with(mock, nodes=2, workers=1, env=NEVER_REFUSES) as ours,
        TemporaryDirectory(prefix="hr-bench-") as directory,
        _documents(ours),
    ):
        mix = Path(directory) / "mix"
        mix.write_text("\n".join(map(json.dumps, _bodies())) + "\n")
        memory, answers = _run_mix(ours, mix, requests)
        before = {name: values[-1] for name, values in memory.items()}
        _burst(ours, Path(directory))
        time.sleep(GIVEN_BACK_SECONDS)
        after = _memory(ours)
    return rows_of(answers, memory, before, after)


def rows_of(
    answers: int,
    memory: Mapping[str, Sequence[int]],
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> list[Row]:
    """Return the lines: the growth in the last quarter of the mix, and what a burst leaves."""
    rows = []
    for name, values in memory.items():
        growth = growth_of_last_quarter(values)
        rows.append(
            Row(
                measure=f"{name} in the last quarter of {answers:,} requests",
                figure=f"{values[0] / 1e6:.0f} to {values[-1] / 1e6:.0f} MB in all,"
                f" {growth:+.1%} in the last quarter",
                bound=f"< {MAX_GROWTH:.0%}",
                passed=growth < MAX_GROWTH,
            )
        )
        ratio = after[name] / before[name]
        rows.append(
            Row(
                measure=f"{name} a minute after a burst of the largest bodies",
                figure=f"{after[name] / 1e6:.0f} MB, {ratio:.2f} times what it had",
                bound=f"< {MAX_AFTER_BURST}",
                passed=ratio < MAX_AFTER_BURST,
            )
        )
    return rows


def growth_of_last_quarter(values: Sequence[int]) -> float:
    """Return by how much the second half of the last quarter is above its first, as a share."""
    last = values[-max(2, len(values) // 4) :]
    middle = len(last) // 2
    return statistics.median(last[middle:]) / statistics.median(last[:middle]) - 1


def _bodies() -> list[dict[str, Any]]:
    def body(text: str, **more: Any) -> dict[str, Any]:
        return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}

    history = [
        {"role": role, "content": question(number)}
        for number in range(20)
        for role in ("user", "assistant")
    ]
    small = [body(question(number)) for number in range(8)]
    streams = [body(question(number), stream=True) for number in range(4)]
    return [
        *small,
        *streams,
        body(question(), tools=[TOOL]),
        body("the " * 10_000),
        {"model": MODEL, "messages": [*history, {"role": "user", "content": "x"}]},
        # Refused: no such model, a wrong type, and a field that changes the answer.
        {**body("x"), "model": "none"},
        {"model": MODEL, "messages": [{"role": "user", "content": 1}]},
        body("x", n=3),
    ]


def _run_mix(ours: Headrace, mix: Path, requests: int) -> tuple[dict[str, list[int]], int]:
    memory: dict[str, list[int]] = {name: [] for name in PARTS}
    answers = 0
    while answers < requests:
        load = wrk.mixed(
            f"{ours.url}{CHAT}",
            bodies=mix,
            key=ours.key,
            connections=CONNECTIONS,
            seconds=ROUND_SECONDS,
        )
        answers += load.requests
        for name, taken in _memory(ours).items():
            memory[name].append(taken)
        megabytes = {name: round(values[-1] / 1e6) for name, values in memory.items()}
        print_progress(f"{answers:,} of {requests:,} requests, MB: {megabytes}")
    return memory, answers


def _burst(ours: Headrace, directory: Path) -> None:
    """Send the largest bodies; what is more than the account may have open at once is refused."""
    message = {"role": "user", "content": "\N{GRINNING FACE}" * LARGE_CHARACTERS}
    body = directory / "large"
    request = {"model": MODEL, "messages": [message]}
    body.write_text(json.dumps(request, ensure_ascii=False) + "\n", encoding="utf-8")
    load = wrk.mixed(
        f"{ours.url}{CHAT}",
        bodies=body,
        key=ours.key,
        connections=BURST_CONNECTIONS,
        seconds=BURST_SECONDS,
    )
    answered = load.requests - load.bad_statuses
    print_progress(
        f"{answered} bodies of {LARGE_CHARACTERS:,} characters, {load.bad_statuses} refused"
    )
    if not answered:
        raise RuntimeError("no body of the burst was answered")


def _memory(ours: Headrace) -> dict[str, int]:
    """Return the bytes that each process has for itself alone, with its children."""
    found = {}
    for name in PARTS:
        process = psutil.Process(int(ours.part(name)["pid"]))
        family = [process, *process.children(recursive=True)]
        found[name] = sum(one.memory_full_info().uss for one in family)
    return found


@contextmanager
def _documents(ours: Headrace) -> Any:
    """Submit a document as a job every now and then, until the end of the block."""
    pool, has_ended = PoolManager(), Event()

    def submit() -> None:
        while not has_ended.wait(DOCUMENT_PAUSE_SECONDS):
            pool.request(
                "POST",
                f"{ours.url}/v1/jobs",
                fields={"chain": "trivial", "file": ("long.txt", DOCUMENT, "text/plain")},
                headers={"Authorization": f"Bearer {ours.key}"},
                timeout=60.0,
                retries=False,
            )

    thread = Thread(target=submit, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join(timeout=70)
