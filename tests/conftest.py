"""Chains of the running stack that tests call, and clients to call them; `stack` is a plugin's.

They are here, above the packages, so that there is one of each: a second set of chains would change
the first while tests use it.
"""

from __future__ import annotations

import json
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest
from django.conf import settings

from tests import chains as runnables
from tests.provider import BEHAVIOURS, Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import client_with, manage
from tests.support.fixtures import certificate, lone, make_proxy, make_stack  # noqa: F401

if TYPE_CHECKING:
    import openai

# A shell starts its background jobs with Ctrl-C ignored, and so would be what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something about the machine, and nothing about the code.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")
# For `make unit`, which runs after each change.
hypothesis.settings.register_profile("unit", deadline=None, max_examples=20)

# Runs in the stack; a chain saved again has a new version, and every node builds it anew.
SAVE_CHAINS = """
import json
from chat.models import Chain
for row in json.loads({rows!r}):
    Chain.objects.update_or_create(
        slug=row.pop("slug"), defaults={{"is_enabled": True, **row}}
    )
"""
MAKE_KEYS = """
import json
from datetime import timedelta
from django.utils import timezone
from access.services import create_key
keys = {{}}
for name, options in json.loads({rows!r}).items():
    made = create_key(name=name, **options)
    keys[name] = {{"id": made.key.public_id, "key": made.secret}}
    if name == "expired":
        made.key.expires_at = timezone.now() - timedelta(seconds=1)
        made.key.save()
    if name == "without scopes":
        made.key.scopes = []
        made.key.save()
print(json.dumps(keys))
"""
# The stack's CHAIN_CACHE_SECONDS, and what a slow machine adds.
CHAINS_SEEN_SECONDS = 0.5
# These exist to be refused.
UNBUILDABLE = ("builds_no_runnable",)
NEED_A_MODEL = {
    "pair": "openai:slow-stream",
    "cautious": "openai:hang",
    "bare_model": "openai:echo",
}


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> None:
    """Hash passwords in no time in this process; the nodes of the stack do it as configured."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The misbehaving model provider."""
    with Provider().running() as running:
        yield running


@pytest.fixture(scope="session")
def save_chains(stack: EmbeddedStack) -> Callable[..., None]:
    """Return a function that adds or changes chains of the running stack."""

    def save(*rows: dict[str, Any]) -> None:
        manage(stack, "shell", "--no-imports", "-c", SAVE_CHAINS.format(rows=json.dumps(rows)))
        time.sleep(CHAINS_SEEN_SECONDS)

    return save


@pytest.fixture(scope="session")
def chains(stack: EmbeddedStack, provider: Provider, save_chains: Callable[..., None]) -> None:
    """Chains `provider-NAME` for each of the provider's behaviours, and one for each runnable."""

    def at_provider(slug: str, model: str, **more: Any) -> dict[str, Any]:
        return {
            "slug": slug,
            "runnable": "assistant",
            "model": f"openai:{model}",
            "base_url": provider.base_url,
            "timeout_seconds": 20,
            **more,
        }

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    save_chains(
        *(at_provider(f"provider-{name}", name) for name in BEHAVIOURS),
        at_provider("unreachable", "hello", base_url=nobody),
        at_provider("impatient", "hang", timeout_seconds=2),
        at_provider("gated", "gated", timeout_seconds=100),
        at_provider("impatient-stream", "stall-mid-stream", timeout_seconds=2),
        at_provider(
            "with-fallbacks", "fail-500", fallback_models=["openai:fail-429", "openai:hello"]
        ),
        at_provider("all-fail", "fail-429", fallback_models=["openai:fail-500"]),
        at_provider("wrong-key-first", "leaky-401", fallback_models=["openai:hello"]),
        at_provider("no-quota-first", "quota-429", fallback_models=["openai:hello"]),
        at_provider("request-at-fault", "too-long", fallback_models=["openai:hello"]),
        at_provider("breaks-midway", "reset-mid-stream", fallback_models=["openai:hello"]),
        at_provider(
            "prompted",
            "echo",
            system_prompt="You are the chain's own prompt.",
            temperature=0.25,
            max_tokens=77,
            parameters={"top_p": 0.5},
        ),
        at_provider("cached", "echo", cache_mode="always"),
        at_provider("cached-shared", "echo", cache_mode="always", cache_scope="shared"),
        at_provider("cached-if-deterministic", "echo", cache_mode="deterministic"),
        at_provider("cached-slow", "slow-start", cache_mode="always"),
        at_provider("cached-stream", "slow-stream", cache_mode="always"),
        at_provider(
            "cached-stale",
            "echo",
            cache_mode="always",
            cache_ttl_seconds=1,
            cache_stale_seconds=600,
        ),
        at_provider(
            "cached-stand-in",
            "works-once",
            cache_mode="always",
            cache_ttl_seconds=1,
            cache_stale_if_error_seconds=600,
        ),
        at_provider("cached-failing", "fail-500", cache_mode="always"),
        at_provider("cached-broken-stream", "reset-mid-stream", cache_mode="always"),
        at_provider("cached-half-stream", "no-reason", cache_mode="always"),
        at_provider("cached-hang", "stall-mid-stream", cache_mode="always"),
        at_provider("disabled", "hello", is_enabled=False),
        at_provider("summarize-quick", "short-summary", runnable="summarize"),
        at_provider("summarize-slow", "slow-summary", runnable="summarize"),
        at_provider("summarize-never-shorter", "echo", runnable="summarize"),
        at_provider("summarize-failing", "fail-500", runnable="summarize"),
        at_provider("blocks-briefly", "hello", runnable="blocks", timeout_seconds=1),
        at_provider("async-hang", "hang", runnable="async_then_model"),
        # The stack's own local model, kept short: a sentence for each part and for the whole.
        {"slug": "terse", "runnable": "assistant", "max_tokens": 8},
        {
            "slug": "summarize-real",
            "runnable": "summarize",
            "max_tokens": 48,
            "temperature": 0,
            "parameters": {"stop": ["."]},
            "timeout_seconds": 200,
        },
        *(
            at_provider(name, NEED_A_MODEL.get(name, "openai:hello")[7:], runnable=name)
            for name in runnables.NAMES
            if name not in UNBUILDABLE
        ),
    )


@pytest.fixture(scope="session")
def keys(stack: EmbeddedStack) -> dict[str, dict[str, str]]:
    """API keys for tests, by what they are for: each with `id` and `key`."""
    run = uuid.uuid4().hex
    options: dict[str, dict[str, Any]] = {
        "other": {"account_name": f"other {run}"},
        "shared 1": {"account_name": f"shared {run}"},
        "shared 2": {"account_name": f"shared {run}"},
        "pages": {"account_name": f"pages {run}"},
        "single": {"max_concurrent": 1},
        "single for reading": {"max_concurrent": 1},
        "to be revoked": {},
        "expired": {"expires_days": 1},
        "without scopes": {},
        "schema": {"account_name": f"schema {run}"},
    }
    made = manage(stack, "shell", "--no-imports", "-c", MAKE_KEYS.format(rows=json.dumps(options)))
    keys: dict[str, dict[str, str]] = json.loads(made)
    return keys


@pytest.fixture(scope="session")
def make_http(
    stack: EmbeddedStack, keys: dict[str, dict[str, str]]
) -> Iterator[Callable[[str], httpx.Client]]:
    """Return a maker of HTTP clients with one of the keys, which need only paths."""
    made: list[httpx.Client] = []

    def make(name: str) -> httpx.Client:
        made.append(client_with(stack, keys[name]["key"]))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def http(stack: EmbeddedStack, chains: None) -> Iterator[httpx.Client]:
    """An HTTP client with the demo key."""
    with client_with(stack, stack.demo_key) as client:
        yield client


@pytest.fixture(scope="session")
def other_http(make_http: Callable[[str], httpx.Client], chains: None) -> httpx.Client:
    """An HTTP client with a key of another account."""
    return make_http("other")


@pytest.fixture(scope="session")
def node_urls(stack: EmbeddedStack) -> list[str]:
    """The addresses of both nodes, past HAProxy; they stay while the stack runs."""
    parts = [part for part in stack.status()["parts"] if part["kind"] == "node"]
    return [f"http://{part['address']}" for part in parts]


@pytest.fixture
def nodes(
    stack: EmbeddedStack, node_urls: list[str], http: httpx.Client
) -> Iterator[list[httpx.Client]]:
    """A client of each node, past HAProxy, with the demo key."""
    clients = [client_with(stack, stack.demo_key) for _ in node_urls]
    for client, url in zip(clients, node_urls, strict=True):
        client.base_url = httpx.URL(url)
    yield clients
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def sdk(stack: EmbeddedStack, chains: None) -> Iterator[openai.OpenAI]:
    """OpenAI's own SDK, pointed at the stack; it tries nothing twice."""
    # Most runs do without the half second that its import takes.
    import openai

    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key=stack.demo_key, max_retries=0, timeout=60
    ) as client:
        yield client


@pytest.fixture
def marker() -> str:
    """A text by which a test finds its own calls at the provider, and lines in logs."""
    return f"marker-{uuid.uuid4().hex}"
