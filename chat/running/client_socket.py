"""Notice that a client disconnects while its answer is computed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
from django.http import HttpRequest


class ClientSocket:
    """The connection a request came by.

    gunicorn hands it to the application in the WSGI environment. Under another server there is
    none, and a disconnect shows only when the answer is written.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._socket: socket.socket | None = request.META.get("gunicorn.socket")
        self.is_gone = False

    @contextmanager
    def watch(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Call `on_gone` once, from the event loop, if the client closes its side.

        `on_gone` must not block. A readable socket with no data is a closed one; bytes are the
        next request of a pipelining client, which will wait.
        """
        if self._socket is None or self._socket.fileno() < 0:
            yield
            return
        watcher = gevent.get_hub().loop.io(self._socket.fileno(), 1)

        def on_readable() -> None:
            watcher.stop()
            if self._is_closed():
                self.is_gone = True
                on_gone()

        watcher.start(on_readable)
        try:
            yield
        finally:
            watcher.stop()
            watcher.close()

    def _is_closed(self) -> bool:
        assert self._socket is not None  # noqa: S101  (called by `watch` alone)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
