"""Answers that are put and found: in memory, in the store, and not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from scaling.response_cache import cache, hit_counters
from scaling.response_cache.entry import MAX_BODY_BYTES, encode
from scaling.response_cache.store import get_store
from tests.scaling.response_cache.entries import make_entry

pytestmark = pytest.mark.parametrize("server", ["redis"], indirect=True)

VALUES = "headrace:cache:value:"


@pytest.fixture(autouse=True)
def _nothing_near(server: Any) -> Iterator[None]:
    cache.near.cache_clear()
    yield
    cache.near.cache_clear()


@pytest.fixture
def key() -> str:
    return f"test:{uuid.uuid4().hex}"


def counted(result: str, chain: str = "test") -> float:
    """Return how often this came of a request, also a moment ago."""
    hit_counters.flush()
    labels = {"chain": chain, "result": result}
    return REGISTRY.get_sample_value("headrace_cache_results_total", labels) or 0.0


def layer(key: str) -> str | None:
    found = cache.find(key)
    return None if found is None else found.layer


def test_an_entry_is_found_in_memory_and_by_other_processes(server, key):
    assert cache.find(key) is None
    entry = make_entry(b'{"text":"%b"}' % os.urandom(2000).hex().encode())
    before = counted("stored")
    assert cache.put(key, entry)
    assert counted("stored") == before + 1
    assert layer(key) == "near"
    cache.near().clear()
    found = cache.find(key)
    assert found is not None
    assert (found.layer, found.entry, found.is_fresh) == ("store", entry, True)
    assert layer(key) == "near"
    server.flush()
    assert layer(key) == "near"
    cache.near().clear()
    assert cache.find(key) is None


def test_an_entry_leaves_redis_when_it_has_expired(server, key):
    entry = make_entry(fresh_seconds=20.0, stale_seconds=5.0, stale_if_error_seconds=10.0)
    assert cache.put(key, entry)
    assert 29_000 < server.client().pttl(VALUES + key) <= 30_000


def test_an_answer_that_is_too_large_is_not_stored(server, key, settings):
    settings.CACHE_MAX_ENTRY_BYTES = 1000
    before = counted("too_large")
    assert not cache.put(key, make_entry(bytes(1001)))
    assert cache.find(key) is None
    assert server.client().dbsize() == 0 or not server.client().exists(VALUES + key)
    assert counted("too_large") == before + 1
    assert cache.put(key, make_entry(bytes(1000)))
    assert layer(key) == "near"


def test_a_body_that_no_entry_can_hold_is_too_large_under_any_settings(key, settings):
    settings.CACHE_MAX_ENTRY_BYTES = 2 * MAX_BODY_BYTES
    before = counted("too_large")
    assert not cache.put(key, make_entry(bytes(MAX_BODY_BYTES + 1)))
    assert cache.find(key) is None
    assert counted("too_large") == before + 1


GOOD = encode(make_entry(b'{"text":"' + b"words " * 500 + b'"}'))
RUBBISH = {
    "nothing": b"",
    "a word": b"rubbish",
    "noise": bytes(range(256)) * 40,
    "cut": GOOD[:-1],
    "longer": GOOD + b"x",
    "flipped": GOOD[:40] + bytes([GOOD[40] ^ 1]) + GOOD[41:],
    "of another version": b"\x7f" + GOOD[1:],
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_in_the_store_is_a_miss_that_is_counted_and_replaced(server, key, what):
    server.client().set(VALUES + key, RUBBISH[what])
    before = counted("error", chain="")
    assert cache.find(key) is None
    assert counted("error", chain="") == before + 1
    entry = make_entry(b"good")
    assert cache.put(key, entry)
    cache.near().clear()
    found = cache.find(key)
    assert found is not None
    assert found.entry == entry


@pytest.mark.parametrize(
    "change",
    [
        {"content_type": "text/plain\r\nx-other: 1"},
        {"content_type": "text/pl\u00e4in"},
        {"prompt_tokens": -1},
        {"completion_tokens": -1},
    ],
    ids=["two headers", "no ascii", "prompt", "completion"],
)
def test_an_entry_that_no_answer_has_is_a_miss(server, key, change):
    get_store().set(key, encode(make_entry(**change)), 60)
    before = counted("error", chain="")
    assert cache.find(key) is None
    assert counted("error", chain="") == before + 1


def test_a_value_of_another_type_is_a_miss_that_is_replaced(server, key):
    server.client().rpush(VALUES + key, "rubbish")
    assert cache.find(key) is None
    assert cache.put(key, make_entry())
    cache.near().clear()
    assert layer(key) == "store"


def test_lives_are_up_to_a_tenth_shorter_so_that_not_all_end_at_once():
    lives = [cache.jittered(100.0) for _ in range(2000)]
    assert all(90.0 <= life <= 100.0 for life in lives)
    assert min(lives) < 91
    assert max(lives) > 99


def test_an_old_answer_is_found_but_is_not_fresh_and_not_at_hand(key):
    assert cache.put(key, make_entry(fresh_seconds=0.3, stale_seconds=10.0))
    assert layer(key) == "near"
    time.sleep(0.35)
    assert cache.find_near(key) is None
    found = cache.find(key)
    assert found is not None
    assert (found.layer, found.is_fresh) == ("store", False)
    assert found.entry.may_serve_stale_while_revalidate(time.time())
    # Looking for it has not put it at hand.
    assert cache.find_near(key) is None


def test_an_answer_is_at_hand_for_a_while_only(server, key, settings):
    settings.CACHE_NEAR_SECONDS = 0.2
    cache.put(key, make_entry())
    assert layer(key) == "near"
    time.sleep(0.25)
    assert layer(key) == "store"


def test_without_redis_what_is_at_hand_is_found_and_nothing_is_stored(server, key, settings):
    cache.put(key, make_entry())
    server.kill()
    assert layer(key) == "near"
    other = f"{key} other"
    before = counted("error")
    assert not cache.put(other, make_entry())
    assert counted("error") == before + 1
    # This process still has it.
    assert layer(other) == "near"
    cache.near().clear()
    assert cache.find(key) is None
