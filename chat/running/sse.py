"""Server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from django.http import StreamingHttpResponse
from django.http.response import ResponseHeaders

from chat.running.execution import Heartbeat
from node.request_release import release_request
from scaling.connections import drop_connections, release_connections

T = TypeVar("T")

# Yields events, and returns the one that closes the stream.
Events = Generator[bytes, None, bytes]


# Line breaks to Python's `splitlines`, by which httpx cuts a stream: NEL, and the separators of
# lines and of paragraphs. JSON may hold them as they are, and orjson leaves them so.
LINE_BREAKS = [(char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029"]


class SseResponse(StreamingHttpResponse):
    """A stream of events that no proxy may buffer or store.

    Invariant: no event is sent while this greenlet holds a database connection, as the client may
    take its time to read it. `on_close` runs once when the stream ends, also when it was never
    read.

    The server iterates once it has the head: the request, whose WSGI environment is `environ`, the
    head and this greenlet's database wrappers are released then.
    """

    _resource_closers: list[Callable[[], None]]

    def __init__(
        self,
        events: Iterator[bytes],
        *,
        on_close: Callable[[], None],
        environ: dict[str, Any] | None = None,
    ) -> None:
        self._sent = _Sent(events)
        super().__init__(
            self._sent,
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._on_close: Callable[[], None] | None = on_close
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        """Release the request, and return the events."""
        environ, self._environ = self._environ, None
        if environ is not None:
            closers, self._resource_closers = self._resource_closers, [self._sent.close]
            for close in closers:
                if close != self._sent.close:
                    close()
            self.headers = ResponseHeaders({})
            release_request(environ)
            drop_connections()
        return self._sent

    def close(self) -> None:
        """Close the events first, so that `on_close` has their counts."""
        try:
            super().close()
        finally:
            if on_close := self._on_close:
                self._on_close = None
                on_close()


class _Sent:
    """Events as they are sent; `close` closes their iterator also where none was read."""

    def __init__(self, events: Iterator[bytes]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        event = next(self._events)
        release_connections()
        return event

    def close(self) -> None:
        if (close := getattr(self._events, "close", None)) is not None:
            close()


def event(data: bytes, *, name: str = "") -> bytes:
    """Return one event of JSON that orjson wrote, which holds no line feed."""
    if not data.isascii():
        for char, escape in LINE_BREAKS:
            data = data.replace(char, escape)
    prefix = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (prefix, data)


def joined(events: Iterable[bytes]) -> Iterator[bytes]:
    """Yield events that are ready together as one piece, which is one write; nothing for none.

    Where one cannot be made, those before it are yielded, and its error raised.
    """
    ready: list[bytes] = []
    try:
        for one in events:
            ready.append(one)
    finally:
        if ready:
            yield b"".join(ready)


def heartbeat(beat: Heartbeat) -> bytes:
    """Return a comment that holds the connection open and shows the progress of the chain."""
    if beat.progress is None:
        return b": heartbeat\n\n"
    return b": progress %d/%d\n\n" % (beat.progress.completed, beat.progress.total)


class PrimedStream(Generic[T]):
    """A stream whose first item has arrived, so that an early error can still set the status.

    Making one waits for that item. The wait ends with the first heartbeat at the latest: then the
    answer begins, and a later error must go inside it. Close it, also when it was not read.
    """

    def __init__(self, items: Generator[T]) -> None:
        self._items = items
        self._first = list(islice(items, 1))

    def __iter__(self) -> Iterator[T]:
        """Iterate once over all items."""
        return chain(self._first, self._items)

    def close(self) -> None:
        """Abort the rest of the stream."""
        self._items.close()
