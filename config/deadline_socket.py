"""Sockets whose exchanges end by a deadline and within a number of bytes."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Deadline:
    """The moment at which the time for an exchange is over."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        """Return the time that is left; raises TimeoutError when there is none."""
        if (seconds := self._at - time.monotonic()) <= 0:
            raise TimeoutError("the time limit has passed")
        return seconds

    @contextmanager
    def enforced_on(self, sock: socket.socket) -> Iterator[None]:
        """End a call of the socket at the deadline with TimeoutError."""
        sock.settimeout(self.remaining_seconds())
        yield


class AnswerTooLong(OSError):
    """A peer sent more than is read of any."""


class DeadlineSocket:
    """As much of a socket as http.client uses; no call outlasts the deadline.

    A plain socket's timeout restarts with every byte that arrives. At most `max_bytes` are
    read, of every kind: http.client itself goes on for as long as a server sends
    `100 Continue`, trailers or chunk extensions.
    """

    def __init__(
        self, sock: socket.socket, deadline: Deadline, *, max_bytes: int, setting: str = ""
    ) -> None:
        self._sock = sock
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._setting = setting or f"{max_bytes} bytes"

    def sendall(self, data: Any) -> None:
        """Send everything; raises TimeoutError."""
        rest = memoryview(data)
        while rest:
            with self._deadline.enforced_on(self._sock):
                sent = self._sock.send(rest)
            rest = rest[sent:]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader of what arrives; it raises TimeoutError and AnswerTooLong."""
        return io.BufferedReader(
            _Incoming(self._sock, self._deadline, self._max_bytes, self._setting)
        )

    def close(self) -> None:
        """Do nothing: http.client closes its socket before it has read the answer."""

    def hang_up(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Incoming(io.RawIOBase):
    def __init__(
        self, sock: socket.socket, deadline: Deadline, max_bytes: int, setting: str
    ) -> None:
        self._sock = sock
        self._deadline = deadline
        self._bytes_left = max_bytes
        self._setting = setting

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._bytes_left <= 0:
            raise AnswerTooLong(f"the answer is longer than {self._setting} allows")
        with self._deadline.enforced_on(self._sock):
            count = self._sock.recv_into(buffer, min(len(buffer), self._bytes_left))
        self._bytes_left -= count
        return count


def connect_to_one(found: list[Any], deadline: Deadline) -> socket.socket:
    """Return a connection to the first address of `getaddrinfo` that has one; raises OSError."""
    failure: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        # One address that swallows packets leaves time for the others.
        seconds = deadline.remaining_seconds() / (len(found) - number)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
