"""Hand a chain's chunks from its greenlet to the one that sends them.

gevent's queues are for any number of both: three deques of 760 bytes for each stream, and a
timeout with an exception for each wait.
"""

from __future__ import annotations

from typing import Any

from gevent import get_hub
from gevent.hub import Waiter


class Handoff:
    """A bounded buffer between one greenlet that puts and one that takes, of the same thread."""

    __slots__ = ("_items", "_max_items", "_reader", "_writer")

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items: list[Any] = []
        self._reader: Any = None
        self._writer: Any = None

    def put(self, item: Any) -> None:
        """Add an item; wait while the buffer is full."""
        while len(self._items) >= self._max_items:
            self._writer = Waiter()
            try:
                self._writer.get()
            finally:
                self._writer = None
        self.put_at_once(item)

    def put_at_once(self, item: Any) -> None:
        """Add an item, also to a full buffer; never blocks."""
        self._items.append(item)
        reader, self._reader = self._reader, None
        _wake(reader)

    def take(self, timeout_seconds: float) -> list[Any]:
        """Return all items, in their order; wait for the first, and return none after the time."""
        if not self._items:
            waiter: Any = Waiter()
            self._reader = waiter
            timer = get_hub().loop.timer(max(0.0, timeout_seconds))
            # The loop's own clock may be behind by what this turn of it has taken.
            timer.start(waiter.switch, None, update=True)
            try:
                waiter.get()
            finally:
                self._reader = None
                timer.stop()
                timer.close()
        return self.take_ready()

    def take_ready(self) -> list[Any]:
        """Return the items that are there, and let the writer go on."""
        items, self._items = self._items, []
        writer, self._writer = self._writer, None
        _wake(writer)
        return items


def _wake(waiter: Any) -> None:
    # Only the hub may switch to a greenlet that waits.
    if waiter is not None:
        get_hub().loop.run_callback(waiter.switch, None)
