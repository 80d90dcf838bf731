"""Steady load on a stack, and streams that stay open."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.support.calls import chat_body, client_with, read_events

if TYPE_CHECKING:
    from tests.support.own_stack import OwnStack


class Load:
    """Clients that send one request after another; every failure is recorded with its time."""

    def __init__(self, stack: OwnStack, *, clients: int = 3, pause_seconds: float = 0.1) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stack = stack
        self._pause_seconds = pause_seconds
        self._is_over = threading.Event()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    @property
    def nodes(self) -> Counter[str]:
        """Return how many requests each node answered."""
        found: Counter[str] = Counter()
        for text, count in list(self.answers.items()):
            found[text.split()[0]] += count
        return found

    def _run(self) -> None:
        with client_with(self._stack, self._stack.demo_key) as client:
            while not self._is_over.wait(self._pause_seconds):
                self._send(client)

    def _send(self, client: httpx.Client) -> None:
        at = f"{time.monotonic() - self._began:.2f} s"
        try:
            response = client.post("/v1/chat/completions", json=chat_body("hello"))
        except httpx.HTTPError as error:
            self.failures.append(f"{at}: {error!r}")
            return
        if response.status_code != 200:
            self.failures.append(f"{at}: {response.status_code} {response.text[:200]}")
            return
        self.answers[response.json()["choices"][0]["message"]["content"]] += 1


class OpenStream(threading.Thread):
    """A streamed answer that takes so many seconds, read as it comes."""

    def __init__(self, stack: OwnStack, seconds: float) -> None:
        super().__init__(daemon=True)
        self.events: list[Any] = []
        self.failure = ""
        self.lasted_seconds = 0.0
        self._stack = stack
        self._body = chat_body("ticks", str(seconds), stream=True)
        self._has_begun = threading.Event()
        self.start()
        assert self._has_begun.wait(20), "the stream did not begin"

    def run(self) -> None:
        """Read until the end."""
        began = time.monotonic()
        try:
            with (
                client_with(self._stack, self._stack.demo_key) as client,
                client.stream("POST", "/v1/chat/completions", json=self._body) as response,
            ):
                for _, data in read_events(response):
                    self.events.append(data)
                    self._has_begun.set()
        except httpx.HTTPError as error:
            self.failure = repr(error)
        self.lasted_seconds = time.monotonic() - began

    @property
    def is_complete(self) -> bool:
        """Whether it came to its own end."""
        return not self.failure and self.events[-1:] == ["[DONE]"]

    @property
    def error(self) -> dict[str, Any]:
        """Return the error that it ended with."""
        error: dict[str, Any] = self.events[-1]["error"]
        return error


class StreamLoad:
    """Streams of so many seconds each, three open at any time."""

    def __init__(self, stack: OwnStack, seconds: float) -> None:
        self.whole = 0
        self.failures: list[str] = []
        self._stack = stack
        self._seconds = seconds
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            stream = OpenStream(self._stack, self._seconds)
            stream.join()
            if stream.is_complete:
                self.whole += 1
            else:
                self.failures.append(f"{stream.failure or stream.events[-1:]}")
