"""One name before servers that move: a TCP forwarder that a test points elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

READ_BYTES = 65536


class Forwarder:
    """Forward new connections to `target`, a port of this machine; open ones stay where they are.

    While `is_silent`, new connections are accepted and get no answer.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_silent = False
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that stays."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            self._close(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(client)
            if self.is_silent:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                self._close(client)
                continue
            server.settimeout(None)
            self._open.add(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(READ_BYTES):
                sink.sendall(data)
        self._close(source)
        self._close(sink)

    def _close(self, one: socket.socket) -> None:
        self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
