"""Staff's pages of chains and conversations."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from access.models import Account
from chat.models import Chain, Conversation, Message

pytestmark = pytest.mark.django_db

CHAINS = "admin:chat_chain"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


def form(**changes: Any) -> dict[str, Any]:
    """Return a good chain's form."""
    return {
        "slug": "helper",
        "runnable": "assistant",
        "is_enabled": "on",
        "model": "openai:gpt-5-mini",
        "base_url": "http://127.0.0.1:9/v1",
        "fallback_models": "[]",
        "system_prompt": "Be kind.",
        "temperature": "0.5",
        "max_tokens": "100",
        "parameters": "{}",
        "timeout_seconds": "30",
        "max_running_jobs": "4",
        "cache_mode": "off",
        "cache_scope": "account",
        "cache_ttl_seconds": "3600",
        "cache_stale_seconds": "0",
        "cache_stale_if_error_seconds": "0",
        **changes,
    }


def problems(client: Client, **changes: Any) -> str:
    """Post a chain that must be refused; return what the page says."""
    response = client.post(reverse(f"{CHAINS}_add"), form(**changes))
    assert response.status_code == 200
    assert not Chain.objects.exists()
    return str(response.context["adminform"].form.errors)


def test_a_good_chain_is_saved_as_version_one(admin_client: Client) -> None:
    response = admin_client.post(reverse(f"{CHAINS}_add"), form())
    assert response.status_code == 302
    chain = Chain.objects.get()
    assert (chain.slug, chain.version, chain.temperature) == ("helper", 1, 0.5)
    assert chain.max_running_jobs == 4


def test_empty_fields_are_defaults(admin_client: Client) -> None:
    empty = dict.fromkeys(
        ("model", "base_url", "fallback_models", "parameters", "temperature", "max_tokens"), ""
    )
    assert admin_client.post(reverse(f"{CHAINS}_add"), form(**empty)).status_code == 302
    chain = Chain.objects.get()
    assert (chain.fallback_models, chain.parameters) == ([], {})
    assert (chain.temperature, chain.max_tokens) == (None, None)


def test_each_save_is_a_new_version(admin_client: Client) -> None:
    admin_client.post(reverse(f"{CHAINS}_add"), form())
    chain = Chain.objects.get()
    for version in (2, 3):
        url = reverse(f"{CHAINS}_change", args=[chain.pk])
        assert admin_client.post(url, form(system_prompt=str(version))).status_code == 302
        chain.refresh_from_db()
        assert chain.version == version


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nobody:some-model"}, "nobody"),
        ({"model": "no-provider-at-all"}, "no-provider-at-all"),
        ({"model": "anthropic:claude"}, "langchain-anthropic"),
        ({"fallback_models": '["openai:gpt-5-nano", "nobody:x"]'}, "nobody"),
        ({"fallback_models": '"openai:gpt-5-nano"'}, "JSON list"),
        ({"fallback_models": "[1]"}, "JSON list"),
        ({"fallback_models": "openai:gpt-5-nano"}, "valid JSON"),
        ({"parameters": "[1]"}, "JSON object"),
        ({"parameters": "{"}, "valid JSON"),
        ({"parameters": '{"a":' * 3000 + "1" + "}" * 3000}, "depth limit"),
        ({"parameters": '{"a": "\\ud800"}'}, "valid JSON"),
        ({"fallback_models": "[" * 3000 + "]" * 3000}, "depth limit"),
        ({"parameters": '{"top_p": "high"}'}, "top_p"),
        pytest.param(
            {"parameters": '{"top_k": 5}'},
            "extra_body",
            marks=pytest.mark.filterwarnings("ignore:WARNING! top_k"),
        ),
        ({"runnable": "cannot_be_built"}, "no template for helper"),
        ({"runnable": "builds_no_runnable"}, "returned int"),
        ({"runnable": "nothing"}, "runnable"),
        ({"slug": "no spaces"}, "slug"),
        ({"slug": "a" * 65}, "slug"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"base_url": "javascript:alert(1)"}, "base_url"),
        ({"temperature": "2.1"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"timeout_seconds": "0"}, "timeout_seconds"),
        ({"timeout_seconds": "3601"}, "timeout_seconds"),
        ({"max_running_jobs": "-1"}, "max_running_jobs"),
        ({"cache_mode": "sometimes"}, "cache_mode"),
        ({"cache_scope": "nobody"}, "cache_scope"),
        ({"cache_ttl_seconds": "0"}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": "soon"}, "cache_ttl_seconds"),
        ({"cache_ttl_seconds": "31622401"}, "cache_ttl_seconds"),
        ({"cache_stale_seconds": "-1"}, "cache_stale_seconds"),
        ({"cache_stale_if_error_seconds": "31622401"}, "cache_stale_if_error_seconds"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    admin_client: Client, changes: dict[str, Any], reason: str
) -> None:
    assert reason in problems(admin_client, **changes)


def test_a_taken_slug_is_refused(admin_client: Client) -> None:
    Chain.objects.create(slug="helper", runnable="assistant")
    response = admin_client.post(reverse(f"{CHAINS}_add"), form())
    assert "already exists" in str(response.context["adminform"].form.errors)


def test_hostile_text_is_shown_as_text(admin_client: Client) -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant", system_prompt=HOSTILE)
    account = Account.objects.create(name=HOSTILE)
    conversation = Conversation.objects.create(
        account=account, chain=chain, metadata={HOSTILE: HOSTILE}
    )
    Message.objects.create(conversation=conversation, position=1, role="user", content=HOSTILE)
    for page in (
        reverse(f"{CHAINS}_changelist"),
        reverse(f"{CHAINS}_change", args=[chain.pk]),
        reverse("admin:chat_conversation_changelist"),
        reverse("admin:chat_conversation_change", args=[conversation.pk]),
        reverse("admin:chat_conversation_delete", args=[conversation.pk]),
        reverse(f"{CHAINS}_history", args=[chain.pk]),
    ):
        response = admin_client.get(page)
        assert response.status_code == 200
        assert HOSTILE.encode() not in response.content
    page = reverse("admin:chat_conversation_change", args=[conversation.pk])
    assert b"&lt;script&gt;" in admin_client.get(page).content


def test_a_refused_form_shows_hostile_text_as_text(admin_client: Client) -> None:
    response = admin_client.post(reverse(f"{CHAINS}_add"), form(model=f"openai{HOSTILE}:x"))
    assert response.status_code == 200
    assert HOSTILE.encode() not in response.content


def test_conversations_are_to_read_and_delete(admin_client: Client) -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant")
    account = Account.objects.create(name="acme")
    conversation = Conversation.objects.create(account=account, chain=chain)
    Message.objects.create(conversation=conversation, position=1, role="user", content="Hello")
    assert admin_client.get(reverse("admin:chat_conversation_add")).status_code == 403
    page = admin_client.get(reverse("admin:chat_conversation_change", args=[conversation.pk]))
    assert b"Hello" in page.content
    assert b"<input" not in page.content.split(b"Last messages")[1].split(b"</table>")[0]
    admin_client.post(
        reverse("admin:chat_conversation_delete", args=[conversation.pk]), {"post": "yes"}
    )
    assert not Conversation.objects.exists()


def test_no_page_of_a_conversation_reads_all_of_its_messages(admin_client: Client) -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant")
    account = Account.objects.create(name="acme")
    conversation = Conversation.objects.create(account=account, chain=chain)
    Message.objects.bulk_create(
        Message(conversation=conversation, position=n, role="user", content=f"<{n}>" + "m" * 9000)
        for n in range(1, 201)
    )
    page = admin_client.get(reverse("admin:chat_conversation_change", args=[conversation.pk]))
    assert b"&lt;200&gt;" in page.content
    assert b"&lt;151&gt;" in page.content
    assert b"&lt;150&gt;" not in page.content
    assert len(page.content) < 200_000
    delete = reverse("admin:chat_conversation_delete", args=[conversation.pk])
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.get(delete)
    assert b"200" in page.content
    assert not [query for query in queries if '"content"' in query["sql"]]
    admin_client.post(delete, {"post": "yes"})
    assert not Message.objects.exists()


def test_a_chain_with_conversations_is_not_deleted(admin_client: Client) -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant")
    account = Account.objects.create(name="acme")
    Conversation.objects.bulk_create(
        Conversation(account=account, chain=chain) for _ in range(1002)
    )
    delete = reverse(f"{CHAINS}_delete", args=[chain.pk])
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.get(delete)
    assert b"more than 1000 conversations" in page.content
    assert not [query for query in queries if '"metadata"' in query["sql"]]
    admin_client.post(delete, {"post": "yes"})
    assert Chain.objects.exists()


def test_the_list_of_conversations_asks_as_often_for_many_as_for_few(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant")
    for number in range(20):
        account = Account.objects.create(name=f"acme {number}")
        Conversation.objects.create(account=account, chain=chain)
    with django_assert_max_num_queries(8):
        admin_client.get(reverse("admin:chat_conversation_changelist"))


@pytest.mark.parametrize("query", ["conv_x", "0" * 32, "'", "\0", "😀"])
def test_no_search_is_a_500(admin_client: Client, query: str) -> None:
    admin_client.raise_request_exception = False
    for page in (reverse("admin:chat_conversation_changelist"), reverse(f"{CHAINS}_changelist")):
        assert admin_client.get(page, {"q": query}).status_code in (200, 302)


def test_a_save_of_some_fields_is_a_new_version_too() -> None:
    chain = Chain.objects.create(slug="helper", runnable="assistant")
    chain.temperature = 1.0
    chain.save(update_fields=["temperature"])
    chain.refresh_from_db()
    assert (chain.version, chain.temperature) == (2, 1.0)


@pytest.mark.django_db(transaction=True)
def test_saves_at_once_get_versions_of_their_own() -> None:
    pk = Chain.objects.create(slug="helper", runnable="assistant").pk
    versions: list[int] = []
    barrier = threading.Barrier(6)

    def save(number: int) -> None:
        try:
            chain = Chain.objects.get(pk=pk)
            barrier.wait()
            chain.max_tokens = number + 1
            chain.save()
            versions.append(chain.version)
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [2, 3, 4, 5, 6, 7]
    assert Chain.objects.get(pk=pk).version == 7
