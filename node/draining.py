"""The state of a process that drains before it stops.

The worker (node.worker) sets it; readiness, answers and streams read it. Nothing here blocks, all
of it happens in the thread of the event loop, and it imports nothing: gunicorn's arbiter imports it
before the worker's modules are patched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Draining:
    """A process that drains is not ready, and `is_over` once its time for answers has run out.

    The two states follow each other in this order; `cancel` goes back, and only from the first.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.is_over = False
        self._watchers: set[Callable[[], None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether a load balancer should send no more requests here."""
        return self.since is not None

    def begin(self, now: float) -> None:
        """Start to drain; `now` is a monotonic clock in seconds."""
        if self.since is None:
            self.since = now

    def cancel(self) -> None:
        """Stop draining, unless the time for answers has run out."""
        if not self.is_over:
            self.since = None

    def end(self) -> None:
        """End every answer under way now."""
        self.is_over = True
        for on_over in list(self._watchers):
            on_over()

    @contextmanager
    def watch(self, on_over: Callable[[], None]) -> Iterator[None]:
        """Call `on_over`, which must not block, if the time runs out; at once if it has."""
        self._watchers.add(on_over)
        try:
            if self.is_over:
                on_over()
            yield
        finally:
            self._watchers.discard(on_over)


DRAINING = Draining()
