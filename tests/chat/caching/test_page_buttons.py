"""The buttons of the page "Response cache", and the page while servers are unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from chat.caching import statistics
from chat.models import Chain
from scaling.response_cache.generations import chain_counter
from scaling.response_cache.store import ALL, get_store
from tests.chat.caching.admin_pages import (
    CHART,
    HOSTILE,
    _memcached,
    _pages_without_collected_static_files,
    _redis_away,
    chain,
    clear_everything,
    clear_url,
    count,
    page,
    staff,
    told,
)
from tests.support.waiting import slack

__all__ = [
    "_memcached",
    "_pages_without_collected_static_files",
    "_redis_away",
    "chain",
    "clear_everything",
    "count",
    "page",
    "staff",
]


pytestmark = pytest.mark.django_db


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
