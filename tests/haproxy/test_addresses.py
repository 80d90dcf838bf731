"""Addresses that are written so that no rule of HAProxy should understand them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.haproxy.addresses import BAD, NOT_UTF8, generated, is_private
from tests.support.lone_proxy import LoneProxy, assert_raw_envelope

CASES = 1000
END = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def closed(make_proxy: Callable[..., LoneProxy]) -> LoneProxy:
    """A HAProxy whose admin is for other addresses, with one node."""
    lone = make_proxy(PROXY_ADMIN_ADDRESSES="192.0.2.1")
    lone.add_node()
    return lone


def answer(lone: LoneProxy, method: str, target: str) -> bytes:
    """Return the answer to a request for an address."""
    return lone.raw(f"{method} {target} HTTP/1.1\r\n{END}".encode("latin-1"))


def test_an_address_with_a_bad_escape_is_refused(closed: LoneProxy) -> None:
    absolute = [f"http://localhost{target}" for target in BAD]
    for target in [*BAD, *NOT_UTF8, *absolute, "/caf\xe9", "x"]:
        for method in ("GET", "POST", "OPTIONS"):
            reply = answer(closed, method, target)
            if b"<html>" in reply:
                # HAProxy's parser itself has no other page (haproxy.cfg).
                assert reply[9:12] == b"400", target
            else:
                assert_raw_envelope(reply, 400, "bad_request")

    assert closed.nodes[0].requests == []


def test_a_good_escape_is_none_of_haproxys_business(closed: LoneProxy) -> None:
    targets = ["/echo%20a", "/%E4%B8%AD", "/caf%c3%a9", "/%f0%9f%98%80", "/%25zz", "/a?b=%zz&%"]
    for target in targets:
        assert httpx.get(f"{closed.url}{target}").status_code == 200

    assert len(closed.nodes[0].requests) == len(targets)


def test_no_generated_address_reaches_what_is_private(closed: LoneProxy) -> None:
    cases = generated(CASES, seed=13)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda case: answer(closed, *case), cases))

    statuses = Counter(reply[9:12].decode() for reply in replies)
    assert set(statuses) <= {"200", "400", "404", "501"}, statuses
    # Enough of each, or the cases would show nothing.
    assert min(statuses["200"], statuses["400"], statuses["404"]) > CASES / 100
    assert [path for path in closed.nodes[0].requests if is_private(path)] == []
