"""A semaphore that is first come, first served."""

import threading
from collections import deque


class FairSemaphore:
    """Admits `count` callers at once, and those that wait in the order of their arrival.

    Python's own Semaphore lets a caller that arrives at the right moment pass the queue. Greenlets
    run on until they block, so one that releases and soon acquires again would always be first, and
    those in the queue would starve. Here a permit that is released goes to the first in the queue.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._queue: deque[threading.Event] = deque()

    def acquire(self, *, timeout_seconds: float) -> bool:
        """Return whether a permit was acquired in time; each one must be released."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            granted = threading.Event()
            self._queue.append(granted)
        is_acquired = False
        try:
            is_acquired = granted.wait(timeout_seconds)
        finally:
            # Also a greenlet that is killed while it waits leaves the queue; a permit that was
            # granted in that very moment is used, or released.
            was_granted = self._leave(granted)
            if was_granted and not is_acquired:
                self.release()
        return is_acquired

    def release(self) -> None:
        """Return a permit."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1

    def _leave(self, granted: threading.Event) -> bool:
        with self._lock:
            if granted.is_set():
                return True
            self._queue.remove(granted)
            return False
