"""A name server of a test's own, which may stop answering, and a stack that uses it alone."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.own_stack import OwnStack

ADDRESS = "127.77.0.53"
# With the options a thread that waits for an answer ends soon after the test.
RESOLV_CONF = f"nameserver {ADDRESS}\noptions timeout:5 attempts:2\n"
# For this process and those it starts, all others see the machine's own file.
COMMAND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
TYPE_A = 1


class NameServer:
    """Answers 127.0.0.1 for each query; nothing while it is silent."""

    def __init__(self) -> None:
        self.is_silent = False
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Hear questions, and answer none."""
        self.is_silent = True
        try:
            yield
        finally:
            self.is_silent = False

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, client = self._socket.recvfrom(4096)
                name, end = _read_name(question)
                self.asked.append(name)
                if not self.is_silent:
                    self._socket.sendto(_answer(question, end), client)


class NamedStack(OwnStack):
    """A stack whose processes use the name server, in a mount namespace of its own."""

    def __init__(self, state_dir: Path, *, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        super().__init__(state_dir, arguments=arguments, env=env)
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = state_dir / "resolv.conf"
        file.write_text(RESOLV_CONF)
        self.prefix = ("unshare", "--mount", "sh", "-c", COMMAND, str(file))


def _read_name(question: bytes) -> tuple[str, int]:
    """Return a query's name, and where its question ends (RFC 1035, 4.1.2)."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 5


def _answer(question: bytes, end: int) -> bytes:
    (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
    count = int(kind == TYPE_A)
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0)
    address = b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, 1, 0, 4) + socket.inet_aton("127.0.0.1")
    return head + question[12:end] + address * count
