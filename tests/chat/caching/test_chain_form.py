"""The cache's fields in the form of a chain."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.caching.cache_key import Bypass, Cacheable, CacheDecision, decide
from chat.chains.config import config_of
from chat.models import Chain
from tests.chat.caching.admin_pages import _pages_without_collected_static_files, chain

__all__ = ["_pages_without_collected_static_files", "chain"]


pytestmark = pytest.mark.django_db


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
