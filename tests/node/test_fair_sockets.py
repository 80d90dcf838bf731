"""A peer that always has more data does not hold the event loop."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent import socket as gevent_socket
from gevent.socket import socket as GeventSocket

from node import fair_sockets

READS = 100
# What a library does with what it has read.
WORK_SECONDS = 0.001


def turns_of_others() -> int:
    """Return how often another greenlet had its turn while this one read what was there."""
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    ours, theirs = gevent_socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * READS)
        gevent.sleep(0)
        other = gevent.spawn(take_turns)
        for _ in range(READS):
            assert ours.recv(1) == b"x"
            time.sleep(WORK_SECONDS)
        other.kill()
    return turns


@pytest.fixture
def is_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrap the sockets for the length of a test."""
    for name in ("recv", "recv_into"):
        monkeypatch.setattr(
            GeventSocket, name, fair_sockets.yield_before(getattr(GeventSocket, name))
        )


@pytest.mark.usefixtures("is_fair")
def test_others_have_their_turn_while_there_is_always_something_to_read() -> None:
    assert turns_of_others() >= 3


def test_gevent_by_itself_yields_to_no_other_greenlet() -> None:
    assert turns_of_others() == 0


@pytest.mark.usefixtures("is_fair")
def test_a_socket_that_must_not_block_is_left_alone() -> None:
    ours, theirs = gevent_socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"xx")
        gevent.get_hub().loop.update_now()
        time.sleep(2 * fair_sockets.TURN_SECONDS)
        turns: list[int] = []
        gevent.spawn(turns.append, 1)
        assert ours.recv(1) == b"x"
        assert turns == []


def test_it_is_installed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((GeventSocket, "recv"), (GeventSocket, "recv_into")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    fair_sockets.install()
    first = GeventSocket.recv
    fair_sockets.install()
    assert GeventSocket.recv is first
