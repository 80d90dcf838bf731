"""A name whose server hangs costs no other name a thread, and its own callers little time."""

from __future__ import annotations

import _socket
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from node.resolver import THREADS, SharedResolver
from tests.support.waiting import slack

CALLERS = 200
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class NameServer:
    """Stands for the system's resolver: names that begin with `hang` have no answer at first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_well = threading.Event()

    def getaddrinfo(self, host: str, *args: Any, **kwargs: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("hang"):
            self.is_well.wait(30)
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return ANSWER


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    names = NameServer()
    monkeypatch.setattr(_socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
def resolver(names: NameServer) -> Iterator[SharedResolver]:
    resolver = SharedResolver(gevent.get_hub(), timeout_seconds=0.5)
    yield resolver
    # The end of the pool waits for its threads.
    names.is_well.set()
    resolver.pool.kill()


def test_a_name_that_hangs_holds_one_thread_and_others_are_resolved(
    names: NameServer, resolver: SharedResolver
) -> None:
    hanging = [gevent.spawn(resolver.getaddrinfo, "hang.example", 80) for _ in range(CALLERS)]
    gevent.sleep(0.1)
    assert resolver.getaddrinfo("db.example", 5432) == ANSWER
    assert names.asked == ["hang.example", "db.example"]
    gevent.joinall(hanging, timeout=10)
    assert {type(caller.exception) for caller in hanging} == {socket.gaierror}
    assert isinstance(hanging[0].exception, socket.gaierror)
    assert hanging[0].exception.errno == socket.EAI_AGAIN
    assert "DNS_TIMEOUT_SECONDS" in str(hanging[0].exception)


def test_a_name_is_resolved_again_once_its_server_answers(
    names: NameServer, resolver: SharedResolver
) -> None:
    with pytest.raises(socket.gaierror):
        resolver.getaddrinfo("hang.example", 80)
    names.is_well.set()
    assert resolver.getaddrinfo("hang.example", 80) == ANSWER
    resolver.getaddrinfo("hang.example", 80)
    # Nothing is cached: the address may have changed.
    assert len(names.asked) >= 2


def test_an_unknown_name_is_an_error_for_all_its_callers(resolver: SharedResolver) -> None:
    callers = [gevent.spawn(resolver.getaddrinfo, "unknown.example", 80) for _ in range(3)]
    gevent.joinall(callers, timeout=10)
    errors = [caller.exception for caller in callers]
    assert [type(error) for error in errors] == [socket.gaierror] * 3
    assert {getattr(error, "errno", None) for error in errors} == {socket.EAI_NONAME}


def test_many_names_that_hang_make_no_caller_wait_for_ever(resolver: SharedResolver) -> None:
    callers = [
        gevent.spawn(resolver.getaddrinfo, f"hang{number}.example", 80)
        for number in range(THREADS + 5)
    ]
    started = time.monotonic()
    gevent.joinall(callers, timeout=20)
    assert all(caller.exception for caller in callers)
    assert time.monotonic() - started < slack(10)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_waits_for_no_thread(
    names: NameServer, resolver: SharedResolver, address: str
) -> None:
    hanging = [
        gevent.spawn(resolver.getaddrinfo, f"hang{number}.example", 80) for number in range(THREADS)
    ]
    gevent.sleep(0.1)
    answered = gevent.spawn(resolver.getaddrinfo, address, 80)
    gevent.sleep(0)
    assert answered.value == ANSWER
    names.is_well.set()
    gevent.joinall(hanging, timeout=10)
