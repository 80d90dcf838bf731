"""Server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

from django.http import StreamingHttpResponse

from chat.execution import Heartbeat

T = TypeVar("T")

# Yields events, and returns the one that closes the stream.
Events = Generator[bytes, None, bytes]


class SseResponse(StreamingHttpResponse):
    """A stream of events that no proxy may buffer or store.

    `on_close` runs once when the stream ends, also when nobody ever read it.
    """

    def __init__(self, events: Iterator[bytes], *, on_close: Callable[[], None]) -> None:
        super().__init__(
            events,
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._on_close: Callable[[], None] | None = on_close

    def close(self) -> None:
        """Close the events first, so that what they counted is there for `on_close`."""
        try:
            super().close()
        finally:
            if on_close := self._on_close:
                self._on_close = None
                on_close()


def event(data: bytes, *, name: str = "") -> bytes:
    """Return one event; `data` must not hold a line break, and JSON by orjson never does."""
    prefix = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (prefix, data)


def heartbeat(beat: Heartbeat) -> bytes:
    """Return a comment that keeps the connection open and tells a reader how far the chain is."""
    if beat.progress is None:
        return b": heartbeat\n\n"
    return b": progress %d/%d\n\n" % (beat.progress.completed, beat.progress.total)


def begin(items: Generator[T]) -> Generator[T]:
    """Wait for a stream's first item, so that an early error still gets its own status.

    The wait ends with the first heartbeat at the latest: then the answer begins, and a later
    error must go inside it.
    """
    first: Any = next(items, None)
    return _resume(first, items)


def _resume(first: T | None, items: Generator[T]) -> Generator[T]:
    with closing(items):
        if first is not None:
            yield first
            yield from items
