"""Make reads from a socket that always has data yield to other greenlets.

gevent's `recv` switches to other greenlets only when there is nothing to read. So a loop over the
data of a peer (heads, trailers, comments of a stream, lines of a mail server, a large reply) holds
the event loop for as long as the peer is faster than the loop's code, and no timeout or deadline
can end it. Every library that reads in Python does so by the methods that are wrapped here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.socket import socket as GeventSocket
from gevent.ssl import SSLSocket

# How long one turn of the event loop may take before a read yields to the next.
TURN_SECONDS = 0.01


def install() -> None:
    """Wrap the reading methods of gevent's sockets; a second call does nothing."""
    for owner, name in ((GeventSocket, "recv"), (GeventSocket, "recv_into"), (SSLSocket, "read")):
        read = getattr(owner, name)
        if not hasattr(read, "yields_to_loop"):
            setattr(owner, name, yield_before(read))


def yield_before(read: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that lets other greenlets run first if its own has run for too long."""

    @functools.wraps(read)
    def yield_and_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The loop has cached the time at which its turn began. Sockets that must not block, as
        # asyncio's, and those of native threads are left alone.
        if self.timeout != 0.0 and (hub := get_hub_if_exists()) is not None:
            turn = time.time() - hub.loop.now()
            if not 0.0 <= turn < TURN_SECONDS and gevent.getcurrent() is not hub:
                gevent.sleep(0)
        return read(self, *args, **kwargs)

    yield_and_read.yields_to_loop = True  # type: ignore[attr-defined]
    return yield_and_read
