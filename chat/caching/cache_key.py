"""Decide whether a request's answer may come from the cache, and under which key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from chat.chains.config import ChainConfig
from chat.inputs.completion_request import ChatCompletionRequest
from scaling.response_cache.generations import GENERATIONS, account_counter, chain_counter
from scaling.response_cache.keys import answer_key
from scaling.response_cache.policy import CachePolicy, CacheScope

# In the WSGI environment: the key that the edge did not find.
EDGE_MISS_KEY = "headrace.edge_miss_key"
# Fields that do not change the answer.
IGNORED_FIELDS = frozenset({"user", "n", "model"})
NULLABLE_FIELDS = frozenset(ChatCompletionRequest.model_fields) - {"messages"}
# RunnableConfig's members that only name or bound a run.
RUN_NAMES = frozenset({"run_id", "run_name", "tags", "metadata", "max_concurrency"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cacheable:
    """A request whose answer may come from the cache, or may go into it."""

    chain: str
    policy: CachePolicy
    key: str
    may_read: bool = True
    # The edge looked a moment ago, and found nothing.
    edge_missed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """A request that bypasses the cache; `reason` is one word for clients."""

    chain: str
    reason: str


CacheDecision = Cacheable | Bypass


def decide(
    *,
    api: str,
    config: ChainConfig,
    account_id: UUID,
    key_fields: Mapping[str, Any],
    is_deterministic: bool,
    cache_control: str = "",
    edge_miss_key: str | None = None,
) -> CacheDecision:
    """Return the cache's decision about a request; `key_fields` determine its answer.

    The key holds the chain's revision, so an edited chain has no old answers, and the account,
    unless the chain shares its answers.
    """
    policy = config.cache
    if not settings.CACHE_ENABLED:
        return Bypass(chain=config.slug, reason="disabled")
    if not policy.applies(is_deterministic=is_deterministic):
        reason = "off" if policy.mode == "off" else "not-deterministic"
        return Bypass(chain=config.slug, reason=reason)
    directives = read_directives(cache_control)
    if "no-store" in directives:
        return Bypass(chain=config.slug, reason="no-store")
    if "no-cache" in directives and policy.scope is CacheScope.SHARED:
        # No account chooses the answers of others by sending a request until one pleases it.
        return Bypass(chain=config.slug, reason="no-cache")
    key = request_key(api=api, config=config, account_id=account_id, key_fields=key_fields)
    return Cacheable(
        chain=config.slug,
        policy=policy,
        key=key,
        may_read="no-cache" not in directives,
        edge_missed=key == edge_miss_key,
    )


def request_key(
    *, api: str, config: ChainConfig, account_id: UUID, key_fields: Mapping[str, Any]
) -> str:
    """Return the key of a request's answer."""
    # A shared answer belongs to no account, neither to be served nor to be cleared.
    is_shared = config.cache.scope is CacheScope.SHARED
    account = "" if is_shared else account_counter(account_id)
    generation = GENERATIONS.generation(chain=chain_counter(config.slug), account=account)
    scope = "" if is_shared else account_id.hex
    return answer_key(config.slug, api, config.revision, generation, scope, key_fields)


def completion_key_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion's body that determine the answer.

    Without `user`, nulls and a `stream` that is false, which mean the same as no field. An unknown
    field stays, so that no faulty request has the key of a valid one.
    """
    return {
        name: value
        for name, value in body.items()
        if not (name in IGNORED_FIELDS or (value is None and name in NULLABLE_FIELDS))
        and not (name == "stream" and value is False)
    }


def is_deterministic_completion(body: Mapping[str, Any], config: ChainConfig) -> bool:
    """Return whether a chat completion has temperature 0 or a seed, of its own or its chain's."""
    temperature = body.get("temperature")
    if temperature is None:
        temperature = config.temperature
    return temperature == 0 or body.get("seed") is not None or _has_seed(config)


def invoke_key_fields(value: Any, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields that determine the answer of LangServe's `invoke` to one input."""
    fields_set = {
        name: part
        for name, part in (config or {}).items()
        if part is not None and name not in RUN_NAMES
    }
    return {"input": value, "config": fields_set}


def is_deterministic_chain(config: ChainConfig) -> bool:
    """Return whether a chain's own model has temperature 0 or a seed."""
    return config.temperature == 0 or _has_seed(config)


def read_directives(cache_control: str) -> frozenset[str]:
    """Return the names in a `Cache-Control` header, in small letters."""
    if not cache_control:
        return frozenset()
    return frozenset(part.split("=")[0].strip().lower() for part in cache_control.split(","))


def _has_seed(config: ChainConfig) -> bool:
    return config.parameters.get("seed") is not None
