"""The admin's page "Response cache": its figures, its buttons, and what they leave behind."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

import scaling.redis_client
from chat.caching import statistics
from chat.caching.cache_key import Bypass, Cacheable, CacheDecision, decide
from chat.caching.statistics import read_hour, read_statistics
from chat.chains.config import config_of
from chat.models import Chain
from config.cache_urls import redis_cache
from scaling.redis_client import run
from scaling.response_cache import hit_counters
from scaling.response_cache import store as store_module
from scaling.response_cache.generations import chain_counter
from scaling.response_cache.store import ALL, get_store
from tests.support.waiting import slack

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
CHART = 'class="cache-chart"'
NOBODY = "127.0.0.1:1"
# 2001-09-09 01:46 UTC: no node counts there.
LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def page() -> str:
    return reverse("admin:chat_chain_response_cache")


@pytest.fixture
def clear_everything() -> str:
    return reverse("admin:chat_chain_clear_cache")


@pytest.fixture
def chain() -> Chain:
    """A chain of a name that no other test counts for."""
    slug = f"helper-{uuid.uuid4().hex[:12]}"
    return Chain.objects.create(slug=slug, runnable="assistant", cache_mode="always")


@pytest.fixture
def count() -> Iterator[Callable[..., None]]:
    """Return a function that sets the counts of a chain, until the test ends."""
    # A test before this one may have left the way to its own Redis, which is gone.
    scaling.redis_client.reset()
    fields: list[str] = []

    def set_counts(slug: str, **by_result: int) -> None:
        for result, number in by_result.items():
            fields.append(f"{slug}|{result}")
            run(lambda client, number=number: client.hset(hit_counters.NAME, fields[-1], number))

    yield set_counts
    if fields:
        run(lambda client: client.hdel(hit_counters.NAME, *fields))


@pytest.fixture
def staff(client: Client, django_user_model: Any) -> Callable[..., Client]:
    """Return a function that logs in staff with these permissions alone."""

    def log_in(*codenames: str) -> Client:
        user = django_user_model.objects.create_user("someone", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def _redis_away(settings: Any) -> Iterator[None]:
    cache = redis_cache("CACHE_URL", f"redis://{NOBODY}/0", timeout_seconds=0.05)
    settings.CACHES = {"default": cache}
    scaling.redis_client.reset()
    store_module.reset()
    yield
    scaling.redis_client.reset()
    store_module.reset()


@pytest.fixture
def _memcached(settings: Any) -> Iterator[None]:
    settings.CACHE_URL = f"memcached://{NOBODY}"
    store_module.reset()
    yield
    store_module.reset()


def clear_url(chain: Chain) -> str:
    return reverse("admin:chat_chain_clear_cache_of", args=[chain.pk])


def told(response: Any) -> list[tuple[str, str]]:
    """Return the messages with their levels."""
    found = get_messages(response.wsgi_request)
    return [(message.level_tag, str(message)) for message in found]


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


# --- Buttons ------------------------------------------------------------------------------------
def test_a_chain_is_cleared_and_it_is_logged_with_the_chain(
    admin_client: Client, page: str, chain: Chain
) -> None:
    before = get_store().read_generations()
    response = admin_client.post(clear_url(chain))
    assert (response.status_code, response.headers["location"]) == (302, page)
    after = get_store().read_generations()
    assert after[chain_counter(chain.slug)] == before.get(chain_counter(chain.slug), 0) + 1
    assert after[ALL] == before[ALL]
    sentence = (
        f"Cleared the cached responses of chain {chain.slug}; all nodes apply it within a second."
    )
    assert told(response) == [("success", sentence)]
    line = LogEntry.objects.get()
    assert (line.object_id, line.change_message) == (str(chain.pk), sentence)


def test_everything_is_cleared_and_it_is_logged(
    admin_client: Client, page: str, clear_everything: str
) -> None:
    before = get_store().read_generations()[ALL]
    response = admin_client.post(clear_everything, follow=True)
    assert get_store().read_generations()[ALL] == before + 1
    assert "Cleared all answers; all nodes apply it within a second." in response.content.decode()
    line = LogEntry.objects.get()
    assert (line.object_id, str(line.object_repr)) == (None, "Response cache")
    assert "Cleared all answers" in line.change_message
    assert "Response cache" in admin_client.get("/admin/").content.decode()


def test_a_chain_that_is_gone_is_not_found(admin_client: Client) -> None:
    gone = reverse("admin:chat_chain_clear_cache_of", args=[2**31 - 1])
    assert admin_client.post(gone).status_code == 404
    assert not LogEntry.objects.exists()


def test_buttons_are_posted_with_a_token(
    admin_user: Any, chain: Chain, clear_everything: str
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    before = get_store().read_generations()
    for url in (clear_everything, clear_url(chain)):
        assert client.get(url).status_code == 405
        assert client.post(url).status_code == 403
    assert get_store().read_generations() == before


def test_staff_who_may_only_look_see_no_buttons_and_cannot_press_any(
    staff: Callable[..., Client], page: str, chain: Chain, clear_everything: str
) -> None:
    client = staff("view_response_cache")
    text = client.get(page).content.decode()
    assert chain.slug in text
    assert "Clear" not in text
    before = get_store().read_generations()
    for url in (clear_everything, clear_url(chain)):
        assert client.post(url).status_code == 403
    assert get_store().read_generations() == before
    assert not LogEntry.objects.exists()


def test_the_permission_to_clear_is_enough(
    staff: Callable[..., Client], page: str, chain: Chain
) -> None:
    client = staff("clear_response_cache")
    assert "Clear everything" in client.get(page).content.decode()
    assert client.post(clear_url(chain)).status_code == 302
    assert LogEntry.objects.count() == 1


def test_staff_without_permission_see_nothing(staff: Callable[..., Client], page: str) -> None:
    client = staff("view_job", "change_chain")
    assert client.get(page).status_code == 403
    assert page not in client.get("/admin/").content.decode()


def test_who_is_not_logged_in_is_sent_to_the_login(client: Client, page: str) -> None:
    response = client.get(page)
    assert response.status_code == 302
    assert "/login/" in response.headers["location"]


# --- Unavailable servers, and hostile data ------------------------------------------------------
@pytest.mark.usefixtures("_redis_away")
def test_the_page_without_redis_has_a_note(admin_client: Client, page: str, chain: Chain) -> None:
    started = time.monotonic()
    response = admin_client.get(page)
    assert time.monotonic() - started < slack(2)
    text = response.content.decode()
    assert response.status_code == 200
    for sentence in (
        "The counts cannot be read",
        "The entries cannot be counted",
        "The last hour cannot be read",
    ):
        assert sentence in text
    assert chain.slug in text
    for figure in ("hit rate", "<th>Near</th>", "<th>Entries</th>", CHART):
        assert figure not in text


@pytest.mark.usefixtures("_redis_away")
def test_without_redis_the_page_reports_nothing_as_cleared(
    admin_client: Client, chain: Chain, clear_everything: str
) -> None:
    for url in (clear_url(chain), clear_everything):
        response = admin_client.post(url)
        ((level, text),) = told(response)
        assert level == "error"
        assert text.startswith("The store is unavailable, so ")
        assert "may still be served" in text
        admin_client.get(response.headers["location"])
    assert not LogEntry.objects.exists()


@pytest.mark.usefixtures("_memcached")
def test_a_store_that_cannot_list_its_entries_has_counts(
    admin_client: Client, page: str, chain: Chain, count: Callable[..., None]
) -> None:
    count(chain.slug, near=7_654_321)
    text = admin_client.get(page).content.decode()
    assert "This store cannot list its entries." in text
    assert "<td>7654321</td>" in text
    assert "<th>Entries</th>" not in text


def test_hostile_names_and_problems_are_shown_as_text(
    admin_client: Client, page: str, count: Callable[..., None], monkeypatch: Any
) -> None:
    count(HOSTILE, near=1)
    chain = Chain.objects.create(slug=f"{HOSTILE}2", runnable="assistant")
    assert b"alert(1)" in admin_client.get(page).content
    assert HOSTILE.encode() not in admin_client.get(page).content
    response = admin_client.post(clear_url(chain), follow=True)
    assert HOSTILE.encode() not in response.content
    assert b"&lt;script&gt;" in response.content
    found = statistics.Statistics(
        chains=[], is_cut=False, problems=[HOSTILE], has_counts=False, has_entries=False
    )
    monkeypatch.setattr("chat.caching.page.read_statistics", lambda: found)
    content = admin_client.get(page).content
    assert HOSTILE.encode() not in content
    assert b"&lt;script&gt;" in content


# --- The chain's form ---------------------------------------------------------------------------
def test_the_form_has_the_cache_under_a_heading_of_its_own(
    admin_client: Client, chain: Chain
) -> None:
    text = admin_client.get(reverse("admin:chat_chain_change", args=[chain.pk])).content.decode()
    heading = text.index("Response cache</h2>")
    assert text.index('name="max_running_jobs"') < heading
    for name in ("mode", "scope", "ttl_seconds", "stale_seconds", "stale_if_error_seconds"):
        assert text.index(f'name="cache_{name}"') > heading


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_scope": "shared"},
        {"cache_stale_seconds": "600", "cache_stale_if_error_seconds": "60"},
    ],
)
def test_what_has_no_effect_with_caching_off_is_no_mistake(
    admin_client: Client, chain: Chain, changes: dict[str, str]
) -> None:
    url = reverse("admin:chat_chain_change", args=[chain.pk])
    form = {
        "slug": chain.slug,
        "runnable": "assistant",
        "model": "openai:gpt-5-mini",
        "base_url": "http://127.0.0.1:9/v1",
        "timeout_seconds": "30",
        "max_running_jobs": "0",
        "cache_mode": "off",
        "cache_scope": "account",
        "cache_ttl_seconds": "60",
        "cache_stale_seconds": "0",
        "cache_stale_if_error_seconds": "0",
        **changes,
    }
    assert admin_client.post(url, form).status_code == 302
    chain.refresh_from_db()
    assert (chain.cache_mode, chain.version) == ("off", 2)
    assert {name: str(getattr(chain, name)) for name in changes} == changes


def test_caching_that_is_disabled_for_all_is_off_for_each_chain(
    chain: Chain, settings: Any
) -> None:
    def decision() -> CacheDecision:
        return decide(
            api="completions",
            config=config_of(chain),
            account_id=uuid.uuid4(),
            key_fields={"messages": []},
            is_deterministic=True,
        )

    assert isinstance(decision(), Cacheable)
    settings.CACHE_ENABLED = False
    assert decision() == Bypass(chain=chain.slug, reason="disabled")
