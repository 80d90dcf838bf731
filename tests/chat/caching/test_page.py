"""The figures of the admin's page "Response cache"."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.caching import statistics
from chat.caching.statistics import read_hour, read_statistics
from chat.models import Chain
from scaling.redis_client import run
from scaling.response_cache import hit_counters
from scaling.response_cache.store import get_store
from tests.chat.caching.admin_pages import (
    CHART,
    _pages_without_collected_static_files,
    chain,
    count,
    page,
)
from tests.support.waiting import slack

__all__ = ["_pages_without_collected_static_files", "chain", "count", "page"]


pytestmark = pytest.mark.django_db
# 2001-09-09 01:46 UTC: no node counts there.
LONG_AGO = 1_000_000_000


# --- Figures ------------------------------------------------------------------------------------
def test_a_chains_figures_are_shown(
    admin_client: Client, page: str, chain: Chain, count: Callable[..., None]
) -> None:
    numbers = {"near": 50_001, "store": 20_002, "collapsed": 3_003, "stale": 1_004}
    others = {"stale_error": 105, "miss": 25_006, "bypass": 7_007, "error": 8_008}
    count(chain.slug, **numbers, **others)
    for number in range(3):
        get_store().set(f"{chain.slug}:{number}", b"x" * 1000, 60)
    get_store().set(f"{chain.slug}:0:lock", b"x", 60)
    text = admin_client.get(page).content.decode()
    row = next(part for part in text.split("<tr>") if chain.slug in part)
    for number in (*numbers.values(), *others.values(), 3, 3000):
        assert f"<td>{number}</td>" in row, number
    assert "<td>74.8%</td>" in row
    assert "all requests" in row
    assert "<strong>" in text


def test_a_chain_without_figures_is_listed_and_links_lead_to_the_page(
    admin_client: Client, page: str, chain: Chain
) -> None:
    row = next(
        part for part in admin_client.get(page).content.decode().split("<tr>") if chain.slug in part
    )
    assert "<td>-</td>" in row
    for start in ("/admin/", reverse("admin:chat_chain_changelist")):
        assert page in admin_client.get(start).content.decode()


def test_each_flush_counts_for_its_minute_too(chain: Chain) -> None:
    result = f"test-{uuid.uuid4().hex}"
    hit_counters.count(chain.slug, result)
    hit_counters.count("another", result)
    hit_counters.flush()
    deadline = time.monotonic() + slack(5)
    while True:
        this_minute = int(time.time()) // hit_counters.MINUTE_SECONDS
        found = hit_counters.read_minutes([this_minute - 1, this_minute])
        if sum(minute.get(result, 0) for minute in found) == 2:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ttl: Any = run(lambda client: client.ttl(f"{hit_counters.MINUTE}{this_minute}"))
    assert ttl <= hit_counters.MINUTE_RETENTION_SECONDS
    assert ttl > hit_counters.MINUTE_RETENTION_SECONDS - 120 or found[1] == {}
    assert hit_counters.read()[chain.slug] == {result: 1}
    run(
        lambda client: client.hdel(hit_counters.NAME, f"{chain.slug}|{result}", f"another|{result}")
    )


def test_the_hour_is_shown_by_the_minute(admin_client: Client, page: str, monkeypatch: Any) -> None:
    last = LONG_AGO // 60
    names = {last: {"near": 5, "store": 2, "miss": 3}, last - 59: {"collapsed": 1}}
    for number, by_result in {**names, last - 60: {"near": 99}}.items():
        name = f"{hit_counters.MINUTE}{number}"
        run(lambda client, n=name, b=by_result: client.hset(n, mapping=b))
        run(lambda client, n=name: client.expire(n, 60))
    minutes = read_hour(now=LONG_AGO)
    assert len(minutes) == statistics.MINUTES
    assert (minutes[-1].start, minutes[-1].hits, minutes[-1].misses) == (last * 60, 7, 3)
    assert (minutes[0].hits, minutes[0].misses) == (1, 0)
    assert sum(minute.total for minute in minutes) == 11
    monkeypatch.setattr("chat.caching.page.read_hour", lambda: minutes)
    text = admin_client.get(page).content.decode()
    for part in (CHART, ": 7 hits</title>", ": 3 misses</title>", "8 hits", "at most 10 a minute"):
        assert part in text, part


def test_an_hour_without_requests_has_no_chart(
    admin_client: Client, page: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("chat.caching.page.read_hour", lambda: read_hour(now=LONG_AGO * 1.5))
    text = admin_client.get(page).content.decode()
    assert "No request that could be answered from the cache." in text
    assert CHART not in text


# --- A large store ------------------------------------------------------------------------------
class Endless:
    """A store that never comes to an end, with keys of others alone."""

    def count(self) -> Iterator[list[tuple[str, int]]]:
        while True:
            time.sleep(0.01)
            yield []


def test_counting_ends_when_its_time_is_over(
    admin_client: Client, page: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(statistics, "get_store", Endless)
    monkeypatch.setattr(statistics, "COUNTING_SECONDS", 0.1)
    started = time.monotonic()
    assert read_statistics().is_cut
    assert "There are more entries than could be counted" in admin_client.get(page).content.decode()
    assert time.monotonic() - started < slack(1.5)


def test_no_more_than_so_many_entries_are_counted(chain: Chain, monkeypatch: Any) -> None:
    class Full:
        def count(self) -> Iterator[list[tuple[str, int]]]:
            while True:
                yield [(f"{chain.slug}:{number}", 1) for number in range(3)]

    monkeypatch.setattr(statistics, "get_store", Full)
    monkeypatch.setattr(statistics, "MAX_KEYS", 10)
    found = read_statistics()
    assert found.is_cut
    assert sum(each.entries for each in found.chains) == 12
