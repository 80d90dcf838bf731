"""The pages of the cache in the admin, and staff who see them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

import scaling.redis_client
from chat.models import Chain
from config.cache_urls import redis_cache
from scaling.redis_client import run
from scaling.response_cache import hit_counters
from scaling.response_cache import store as store_module

CHART = 'class="cache-chart"'
HOSTILE = "<script>alert(1)</script>"
NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


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
