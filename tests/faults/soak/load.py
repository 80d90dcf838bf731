"""The load: requests of all kinds at a pace, and what counts as an answer."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

from tests.faults.history import History
from tests.faults.replica_load import Account, Client

THREADS = 16
CHAT = "/v1/chat/completions"
CONVERSATIONS = "/v1/conversations"
JOBS = "/v1/jobs"
QUESTIONS = 50
WEIGHTS = {"cached": 40, "uncached": 25, "stream": 5, "read": 20, "job": 10}
# The client's own connection broke, or the proxy's to the node: while a part is killed or frozen.
CUT = (0, 499, 502, 503, 504)


class MixedLoad:
    """THREADS clients of one account; paced with `per_second`, else as fast as they get answers."""

    def __init__(self, account: Account, address: str, *, seed: int, per_second: float = 0) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        # Of each request without a success: its kind and status, when it began and when it ended.
        self.failures: list[tuple[str, float, float]] = []
        self._account = account
        self._address = address
        self._seed = seed
        self._pause = THREADS / per_second if per_second else 0.0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(THREADS)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """The number of requests that succeeded."""
        return sum(n for (_, status), n in self.statuses.items() if 200 <= status < 300)

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed} mixed {number}")
        # Its answers are counted here, and not stored.
        client = Client(
            f"mixed {number}", self._account, History(), {"haproxy": self._address}, str(number)
        )
        at = time.monotonic() + self._pause * rng.random()
        while not self._stop.wait(max(0.0, at - time.monotonic())):
            # Who was held up does not make up for it.
            at = max(at + self._pause, time.monotonic())
            self._send(client, rng)
        client.close()

    def _send(self, client: Client, rng: random.Random) -> None:
        (kind,) = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
        text = f"{rng.randrange(QUESTIONS)}" if kind == "cached" else f"{rng.random()}"
        messages = [{"role": "user", "content": text}]
        request: tuple[str, str, Any]
        match kind:
            case "read":
                request = ("GET conversations", f"{CONVERSATIONS}?limit=5", None)
            case "job":
                request = ("POST job", JOBS, {"chain": "quick", "input": text})
            case _:
                model = "cached" if kind == "cached" else "asked"
                body = {"model": model, "messages": messages, "stream": kind == "stream"}
                request = ("POST chat", CHAT, body)
        # Streams are no JSON to be read; one that breaks off is a cut connection.
        answer, problem = _send_one(client, *request, is_json=kind != "stream")
        status, seconds = answer
        self.statuses[kind, status] += 1
        self.seconds.append(seconds)
        if status in CUT:
            ended = time.monotonic()
            self.failures.append((f"{kind} {status}", ended - seconds, ended))
        elif problem:
            self.wrong.append(f"{kind}: {problem}")


def _send_one(
    client: Client, kind: str, path: str, body: object, *, is_json: bool
) -> tuple[tuple[int, float], str]:
    try:
        answer, _, _ = client.send(kind, path, body, way="haproxy")
    except ValueError:
        # The client reads each answer as JSON, which a stream is not.
        answer = client.history.answers[-1]
        if is_json:
            client.history.answers.clear()
            return (answer.status, answer.ended - answer.began), "an answer that is no JSON"
    client.history.answers.clear()
    return (answer.status, answer.ended - answer.began), answer.problem
