"""Whether this process is leaving, and what has to end because of it.

The worker (node.worker) tells; readiness, answers and streams ask. Nothing here blocks,
all of it happens in the thread of the event loop, and it imports nothing: gunicorn's arbiter has it
before the worker's modules are patched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Draining:
    """A process that leaves is not ready, and `is_over` once its time for answers has run out.

    Both only ever follow each other in this order; `cancel` goes back, and only from the first.
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
        """Be ready no more; `now` is a monotonic clock in seconds."""
        if self.since is None:
            self.since = now

    def cancel(self) -> None:
        """Be ready again."""
        if not self.is_over:
            self.since = None

    def end(self) -> None:
        """Have every answer that is still being made end now."""
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
