"""Slots that accounts share fairly."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from gevent.event import Event


class SlotsBusy(Exception):
    """No slot was free in time; `by_share` is true if the account's own share was the reason."""

    def __init__(self, *, by_share: bool) -> None:
        super().__init__("no slot is free")
        self.by_share = by_share


class FairSlots:
    """At most `size()` slots, an account has at most `share()` of them, and accounts take turns.

    Invariant: no slot is free while a request waits whose account has less than its share. For one
    thread's greenlets.
    """

    def __init__(self, *, size: Callable[[], int], share: Callable[[], int]) -> None:
        self._size = size
        self._share = share
        self._held: Counter[UUID] = Counter()
        # The account whose turn is next comes first.
        self._waiting: OrderedDict[UUID, deque[Event]] = OrderedDict()

    @property
    def taken(self) -> int:
        """The number of slots that are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def slot(self, account_id: UUID, *, wait_seconds: float) -> Iterator[None]:
        """Hold a slot for the block; raises SlotsBusy if none is free in time."""
        granted = Event()
        self._waiting.setdefault(account_id, deque()).append(granted)
        self._grant()
        try:
            if not granted.wait(wait_seconds) and not granted.is_set():
                raise SlotsBusy(by_share=self._held[account_id] >= self._share())
            yield
        finally:
            if granted.is_set():
                self._held[account_id] -= 1
                if not self._held[account_id]:
                    del self._held[account_id]
                self._grant()
            else:
                self._forget(account_id, granted)

    def _grant(self) -> None:
        while self.taken < self._size() and (account_id := self._next()) is not None:
            waiting = self._waiting[account_id]
            self._held[account_id] += 1
            waiting.popleft().set()
            if waiting:
                self._waiting.move_to_end(account_id)
            else:
                del self._waiting[account_id]

    def _next(self) -> UUID | None:
        share = self._share()
        return next((id_ for id_ in self._waiting if self._held[id_] < share), None)

    def _forget(self, account_id: UUID, waiter: Event) -> None:
        waiting = self._waiting[account_id]
        waiting.remove(waiter)
        if not waiting:
            del self._waiting[account_id]
