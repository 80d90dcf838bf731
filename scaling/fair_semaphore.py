"""A semaphore that is fair."""

import threading
from collections import deque


class Turns:
    """Let at most `count` callers in at once, and those who wait in the order they came.

    Python's own Semaphore lets whoever comes by at the right moment pass the queue. Greenlets run
    on until they block, so one that releases and soon acquires again would always be first, and
    those in the queue would starve. Here a turn that ends is handed to the first in the queue.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._queue: deque[threading.Event] = deque()

    def acquire(self, *, timeout_seconds: float) -> bool:
        """Return whether a turn was got in time; each one must be released."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Event()
            self._queue.append(turn)
        has_turn = False
        try:
            has_turn = turn.wait(timeout_seconds)
        finally:
            # Also a greenlet that is killed while it waits leaves the queue; a turn that was
            # handed over in that very moment is used, or given on.
            was_handed = self._leave(turn)
            if was_handed and not has_turn:
                self.release()
        return has_turn

    def release(self) -> None:
        """End a turn."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1

    def _leave(self, turn: threading.Event) -> bool:
        with self._lock:
            if turn.is_set():
                return True
            self._queue.remove(turn)
            return False
