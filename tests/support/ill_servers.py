"""Servers on 127.0.0.1 that answer each connection as a test wants, down to the bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\n"
PIECE = b"headrace_endless 1\n" * 3000

Behaviour = Callable[[socket.socket, threading.Event], None]


@contextmanager
def ill_server(behave: Behaviour) -> Iterator[str]:
    """Run a server; yields its `host:port`."""
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while not is_over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                behave(connection, is_over)

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        is_over.set()
        # Wakes the thread that accepts.
        listener.shutdown(socket.SHUT_RDWR)


def silence(connection: socket.socket, is_over: threading.Event) -> None:
    """Send nothing."""
    is_over.wait(60)


def hang_in_the_middle(connection: socket.socket, is_over: threading.Event) -> None:
    """Stop in the middle of a body."""
    connection.sendall(OK + b"Content-Length: 100\r\n\r\nheadrace_a 1\n")
    is_over.wait(60)


def break_off(connection: socket.socket, is_over: threading.Event) -> None:
    """Close in the middle of a body."""
    connection.sendall(OK + b"Content-Length: 100\r\n\r\nheadrace_a 1\n")


def drip(connection: socket.socket, is_over: threading.Event) -> None:
    """Send a byte at a time, for ever."""
    connection.sendall(OK + b"\r\n")
    while not is_over.is_set():
        connection.sendall(b"a")
        time.sleep(0.05)


def drip_head(connection: socket.socket, is_over: threading.Event) -> None:
    """Send a head a byte at a time, for ever."""
    while not is_over.is_set():
        connection.sendall(b"H")
        time.sleep(0.05)


def endless_body(connection: socket.socket, is_over: threading.Event) -> None:
    """Send a body as fast as it is read, for ever."""
    connection.sendall(OK + b"\r\n")
    while not is_over.is_set():
        connection.sendall(PIECE)


def endless_chunks(connection: socket.socket, is_over: threading.Event) -> None:
    """Send chunks as fast as they are read, for ever."""
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while not is_over.is_set():
        connection.sendall(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))


def endless_continue(connection: socket.socket, is_over: threading.Event) -> None:
    """Send interim answers as fast as they are read, for ever."""
    while not is_over.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def nonsense(connection: socket.socket, is_over: threading.Event) -> None:
    """Answer with what is no metric."""
    names = (b"jobs_running", b"chain_seconds_bucket", b"database_reads_total")
    lines = b"".join(b"headrace_%s many\n" % name for name in names)
    connection.sendall(OK + b"\r\n" + lines)


def redirect(connection: socket.socket, is_over: threading.Event) -> None:
    """Lead to another server."""
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n")


BEHAVIOURS = (
    silence,
    hang_in_the_middle,
    break_off,
    drip,
    drip_head,
    endless_body,
    endless_chunks,
    endless_continue,
    nonsense,
    redirect,
)
