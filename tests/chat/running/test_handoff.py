"""Handing chunks from one greenlet to another: in order, bounded, and waiting for no more."""

from __future__ import annotations

import gevent
import pytest

from chat.running.handoff import Handoff

LONG_SECONDS = 60.0


def test_all_items_that_are_ready_are_taken_in_their_order() -> None:
    handoff = Handoff(8)
    for number in range(3):
        handoff.put(number)
    assert handoff.take(LONG_SECONDS) == [0, 1, 2]


def test_a_reader_that_waits_gets_what_is_put_later() -> None:
    handoff = Handoff(8)
    reader = gevent.spawn(handoff.take, LONG_SECONDS)
    gevent.sleep(0)
    handoff.put("a")
    handoff.put("b")
    assert reader.get() == ["a", "b"]


def test_a_reader_gets_nothing_after_its_time() -> None:
    assert Handoff(8).take(0.0) == []


def test_a_writer_waits_while_the_buffer_is_full() -> None:
    handoff = Handoff(2)

    def write() -> None:
        for number in range(5):
            handoff.put(number)

    writer = gevent.spawn(write)
    gevent.sleep(0)
    assert not writer.ready()
    assert handoff.take(LONG_SECONDS) == [0, 1]
    assert handoff.take(LONG_SECONDS) == [2, 3]
    assert handoff.take(LONG_SECONDS) == [4]


def test_the_end_goes_into_a_full_buffer_at_once() -> None:
    handoff = Handoff(1)
    handoff.put("a")
    handoff.put_at_once("end")
    assert handoff.take_ready() == ["a", "end"]


@pytest.mark.parametrize("is_writer", [False, True])
def test_one_that_is_killed_as_it_waits_does_not_hinder_the_other(is_writer: bool) -> None:
    handoff = Handoff(1)
    if is_writer:
        handoff.put("a")
    waiting = gevent.spawn(handoff.put, "b") if is_writer else gevent.spawn(handoff.take, 60.0)
    gevent.sleep(0)
    waiting.kill()
    if not is_writer:
        handoff.put("a")
    assert handoff.take(LONG_SECONDS) == ["a"]
    handoff.put("c")
    assert handoff.take(LONG_SECONDS) == ["c"]
