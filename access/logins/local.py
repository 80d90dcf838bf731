"""The counts of failed logins of one process, for the time that Redis is unavailable."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from django.conf import settings

from access.logins.verdict import Attempt, Verdict

MAX_ENTRIES = 10_000


class LocalFailures:
    """The shared rules in memory, without known addresses, which only Redis has.

    N processes may together admit N times as many guesses. The entries used last stay, so
    made-up names evict each other's counts; the address's own is used with each of them.
    """

    def __init__(
        self, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def admit(self, attempt: Attempt) -> Verdict:
        """Decide about one login; if it passes, it counts as failed until `end`."""
        with self._lock:
            now = self._clock()
            user = self._window(f"user {attempt.user}", now)
            address = self._window(f"address {attempt.address}", now)
            for name, window, count, limit in (
                ("pair", user, user.counts[attempt.address], settings.LOGIN_FAILURES),
                ("address", address, address.counts["all"], settings.LOGIN_ADDRESS_FAILURES),
                ("user", user, user.counts["all"], settings.LOGIN_USER_FAILURES),
            ):
                if limit and count >= limit:
                    return Verdict(name, max(0.0, window.ends_at - now))
            user.counts.update((attempt.address, "all"))
            address.counts.update(("all",))
            return Verdict(None)

    def end(self, attempt: Attempt) -> None:
        """Take back the count of a login that did not fail."""
        with self._lock:
            now = self._clock()
            self._window(f"user {attempt.user}", now).counts.subtract((attempt.address, "all"))
            self._window(f"address {attempt.address}", now).counts.subtract(("all",))

    def clear(self) -> None:
        """Drop all counts."""
        with self._lock:
            self._windows.clear()

    def _window(self, name: str, now: float) -> _Window:
        window = self._windows.get(name)
        if window is None or window.ends_at <= now:
            window = self._windows[name] = _Window(now + settings.LOGIN_WINDOW_SECONDS)
            if len(self._windows) > self._max_entries:
                self._windows.popitem(last=False)
        self._windows.move_to_end(name)
        return window


class _Window:
    """Failures until `ends_at`, by address, and in all."""

    __slots__ = ("counts", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.counts: Counter[str] = Counter()
