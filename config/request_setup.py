"""The setup of a request: this process's own work before the request waits for something else.

Load shedding measures it; what waits for a chain or for another request's answer ends it, and
waiting for the client's body interrupts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class SetupTimer(Protocol):
    """Measures the setup of one request."""

    def end(self) -> None:
        """Record that the setup is over; a second call does nothing."""

    def pause(self) -> None:
        """Record that the request waits for its client."""

    def resume(self) -> None:
        """Record that the setup goes on."""


# Of the request that this greenlet, and those it starts, work for.
current_setup: ContextVar[SetupTimer | None] = ContextVar("current_setup", default=None)


def mark_dispatched() -> None:
    """Record that this greenlet's request, if any, waits for something else from now on."""
    if (timer := current_setup.get()) is not None:
        timer.end()


@contextmanager
def paused_setup() -> Iterator[None]:
    """Leave the block out of the setup of this greenlet's request, if there is one."""
    if (timer := current_setup.get()) is None:
        yield
        return
    timer.pause()
    try:
        yield
    finally:
        timer.resume()
