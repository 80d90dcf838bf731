"""Post many chat completions ahead of clients, so that their answers are cached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

TIMEOUT_SECONDS = 600.0


@dataclass(kw_only=True)
class WarmupProgress:
    """The progress of a warm-up: counts of lines, and the first failure."""

    total: int
    done: int = 0
    skipped: int = 0
    hits: int = 0
    failed: int = 0
    first_failure: str = ""


class Warmer:
    """Posts the lines of a file as chat completions, a few at a time.

    The numbers of the lines that were answered are written to FILE.done, so that a second run posts
    only the others.
    """

    def __init__(self, file: Path, *, url: str, key: str, concurrency: int) -> None:
        self.lines = file.read_bytes().splitlines()
        self._record = file.with_name(f"{file.name}.done")
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._concurrency = concurrency
        self._lock = threading.Lock()

    def run(self, on_progress: Callable[[WarmupProgress], None]) -> WarmupProgress:
        """Post all lines that are left; Ctrl-C loses no line that is done.

        `on_progress` is called after each line.
        """
        done = self._read_record()
        state = WarmupProgress(total=len(self.lines), skipped=len(done))
        left = iter([n for n, line in enumerate(self.lines, 1) if n not in done and line.strip()])
        with (
            httpx.Client(headers=self._headers, timeout=TIMEOUT_SECONDS) as client,
            self._record.open("a", encoding="ascii") as record,
            ThreadPoolExecutor(self._concurrency) as threads,
        ):
            for number, outcome in self._post_all(client, threads, left):
                if outcome.error:
                    state.failed += 1
                    state.first_failure = state.first_failure or f"line {number}: {outcome.error}"
                else:
                    state.done += 1
                    state.hits += outcome.is_hit
                    record.write(f"{number}\n")
                    record.flush()
                on_progress(state)
        return state

    def _post_all(
        self, client: httpx.Client, threads: ThreadPoolExecutor, left: Iterator[int]
    ) -> Iterator[tuple[int, _Outcome]]:
        running: dict[Future[_Outcome], int] = {}
        while True:
            while len(running) < self._concurrency and (number := next(left, None)) is not None:
                running[threads.submit(self._post, client, self.lines[number - 1])] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()

    def _post(self, client: httpx.Client, line: bytes) -> _Outcome:
        try:
            answer = client.post(self._url, content=line)
        except httpx.HTTPError as error:
            return _Outcome(error=f"{type(error).__name__}: {error}")
        if answer.status_code != 200:
            return _Outcome(error=f"{answer.status_code} {_message(answer)}")
        return _Outcome(is_hit="; hit" in answer.headers.get("cache-status", ""))

    def _read_record(self) -> set[int]:
        try:
            words = self._record.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return set()
        return {int(word) for word in words if word.isdecimal()}


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    is_hit: bool = False
    error: str = ""


def _message(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer.text[:200]
