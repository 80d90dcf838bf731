"""Slots that accounts share: their number, an account's share, and whose turn it is."""

from __future__ import annotations

import uuid
from contextlib import ExitStack

import gevent
import pytest
from gevent.event import Event

from jobs.documents.slots import FairSlots, SlotsBusy

A, B, C = (uuid.uuid4() for _ in range(3))


class Holders:
    """Greenlets that each hold a slot until the test ends them."""

    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.holding: list[str] = []
        self.order: list[str] = []
        self._ends: dict[str, Event] = {}
        self._greenlets: dict[str, gevent.Greenlet] = {}

    def start(self, name: str, account: uuid.UUID) -> None:
        self._ends[name] = Event()
        self._greenlets[name] = gevent.spawn(self._hold, name, account)
        gevent.idle()

    def end(self, name: str) -> None:
        self._ends[name].set()
        self._greenlets[name].join()
        gevent.idle()

    def kill(self, name: str) -> None:
        self._greenlets[name].kill()
        gevent.idle()

    def _hold(self, name: str, account: uuid.UUID) -> None:
        with self.slots.slot(account, wait_seconds=60):
            self.holding.append(name)
            self.order.append(name)
            try:
                self._ends[name].wait()
            finally:
                self.holding.remove(name)


def fair(size: int, share: int) -> FairSlots:
    return FairSlots(size=lambda: size, share=lambda: share)


def test_an_account_takes_its_share_and_leaves_the_rest_to_others():
    holders = Holders(fair(2, 1))
    for number in range(5):
        holders.start(f"a{number}", A)
    assert holders.holding == ["a0"]
    holders.start("b0", B)
    assert holders.holding == ["a0", "b0"]
    assert holders.slots.waiting == 4


def test_accounts_that_wait_take_turns_however_many_each_has_waiting():
    holders = Holders(fair(1, 1))
    for number in range(4):
        holders.start(f"a{number}", A)
    holders.start("b0", B)
    holders.start("c0", C)
    holders.start("b1", B)
    while holders.holding:
        holders.end(holders.holding[0])
    # The first came alone.
    assert holders.order == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]
    assert (holders.slots.taken, holders.slots.waiting) == (0, 0)


def test_who_leaves_while_waiting_or_holding_leaves_nothing_behind():
    holders = Holders(fair(1, 1))
    for name, account in (("a0", A), ("b0", B), ("c0", C)):
        holders.start(name, account)
    holders.kill("b0")
    holders.kill("a0")
    assert holders.holding == ["c0"]
    holders.end("c0")
    assert (holders.slots.taken, holders.slots.waiting) == (0, 0)


def test_a_wait_is_bounded_and_names_what_was_taken():
    slots = fair(2, 1)
    with ExitStack() as held:
        held.enter_context(slots.slot(A, wait_seconds=0))
        with pytest.raises(SlotsBusy) as own, slots.slot(A, wait_seconds=0.01):
            pass
        assert own.value.by_share
        held.enter_context(slots.slot(B, wait_seconds=0))
        with pytest.raises(SlotsBusy) as others, slots.slot(C, wait_seconds=0.01):
            pass
        assert not others.value.by_share
    with slots.slot(A, wait_seconds=0):
        assert slots.taken == 1
