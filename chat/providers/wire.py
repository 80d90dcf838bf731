"""Bound the bytes on a provider's connection, also those that no SDK gets.

An HTTP client reads interim answers (`103 Early Hints` and the like), headers, extensions of chunks
and trailers for as long as a server sends them. So the bytes of each connection are counted as
well, from one request to the next. httpcore passes the connections to a request's `trace`:
https://www.encode.io/httpcore/extensions/#trace
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

# A connection as it is made, TLS within it, and either through a proxy.
CONNECTED = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
# A chunk of one byte has five bytes more around it.
FRAMING = 8
HEAD = "PROVIDER_MAX_RESPONSE_BYTES"


class AnswerTooLarge(Exception):
    """A provider's answer is larger than `setting` allows."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"more than {setting} allows")
        self.setting = setting


class WireBudget:
    """Counts the bytes since a request was sent; raises AnswerTooLarge.

    A head, with the part of the body in the same piece, may have PROVIDER_MAX_RESPONSE_BYTES.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Reset the count, as a request is sent."""
        self.count, self._setting = 0, HEAD
        self._most = int(getattr(settings, HEAD))

    def expect(self, setting: str) -> None:
        """Count the body from here on, of which this setting is the limit."""
        self._setting = setting
        self._most = FRAMING * int(getattr(settings, setting))

    def add(self, count: int) -> None:
        """Count bytes."""
        self.count += count
        if self.count > self._most:
            raise AnswerTooLarge(self._setting)


def trace(event: str, info: dict[str, Any]) -> None:
    """Count the bytes that a connection reads, from its start."""
    if not event.endswith(CONNECTED):
        return
    stream = info["return_value"]
    budget, read, write = WireBudget(), stream.read, stream.write

    def counted_read(*args: Any, **kwargs: Any) -> bytes:
        data: bytes = read(*args, **kwargs)
        budget.add(len(data))
        return data

    def counted_write(*args: Any, **kwargs: Any) -> None:
        budget.begin()
        write(*args, **kwargs)

    stream.read, stream.write, stream.budget = counted_read, counted_write, budget


async def trace_async(event: str, info: dict[str, Any]) -> None:
    """Do the same for a connection of asyncio's."""
    if not event.endswith(CONNECTED):
        return
    stream = info["return_value"]
    budget, read, write = WireBudget(), stream.read, stream.write

    async def counted_read(*args: Any, **kwargs: Any) -> bytes:
        data: bytes = await read(*args, **kwargs)
        budget.add(len(data))
        return data

    async def counted_write(*args: Any, **kwargs: Any) -> None:
        budget.begin()
        await write(*args, **kwargs)

    stream.read, stream.write, stream.budget = counted_read, counted_write, budget


def expect_body(response: Any, setting: str) -> None:
    """Count the body of a response from here on, of which this setting is the limit."""
    budget = getattr(response.extensions.get("network_stream"), "budget", None)
    if budget is not None:
        budget.expect(setting)
