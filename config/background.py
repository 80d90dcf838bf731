"""State of one process, and the threads that work in its background."""

from __future__ import annotations

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from typing import ClassVar

logger = logging.getLogger(__name__)


class ForkSafe(ABC):
    """State of one process; a forked child begins with none of its parent's.

    A lock that another thread of the parent holds at the fork would stay locked in the child for
    ever, so `reset` replaces locks, and takes none. `instances` has every one of this process.
    """

    instances: ClassVar[list[ForkSafe]] = []

    def __init__(self) -> None:
        self.reset()
        self.instances.append(self)

    @abstractmethod
    def reset(self) -> None:
        """Begin with no state: when it is made, in a forked child, and between tests."""


def _reset_all() -> None:
    for instance in ForkSafe.instances:
        instance.reset()


os.register_at_fork(after_in_child=_reset_all)


class BackgroundThread(ForkSafe):
    """Work that one daemon thread a process repeats (a greenlet under gevent).

    `start` starts the thread once, and in a forked child one of its own. Invariant: after a `reset`
    an earlier thread ends without another tick.
    """

    name: str
    # Others wait for an interval before the first tick.
    ticks_at_once = False

    def reset(self) -> None:
        """Begin without a thread; a subclass also drops its own state."""
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless this process has it."""
        if self._thread is None:
            with self._start_lock:
                if self._thread is None:
                    self.prepare()
                    thread = threading.Thread(
                        target=self._run, args=(self._start_lock,), name=self.name, daemon=True
                    )
                    self._thread = thread
                    thread.start()

    def prepare(self) -> None:
        """Do what the first caller of `start`, and all that come with it, must wait for."""

    @property
    @abstractmethod
    def interval_seconds(self) -> float:
        """The pause between two ticks."""

    @abstractmethod
    def tick(self) -> None:
        """Do the work once; an error is logged, and the next tick comes as usual."""

    def count_failure(self) -> None:
        """Count a tick that raised an error; a subclass has the metric."""

    def _run(self, start_lock: threading.Lock) -> None:
        pause = 0.0 if self.ticks_at_once else self.interval_seconds
        while True:
            time.sleep(pause)
            # gevent copies greenlets into a forked child; this one ends there.
            if start_lock is not self._start_lock:
                return
            try:
                self.tick()
            # The outermost frame of a thread, which must go on.
            except Exception:
                self.count_failure()
                logger.exception("the thread %s failed", self.name)
            pause = self.interval_seconds
