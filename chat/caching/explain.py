"""Explain whether a request would hit the cache, and why not."""

from __future__ import annotations

from typing import Any

import orjson

from access.models import Account
from chat.caching.cache_key import (
    Bypass,
    completion_key_fields,
    decide,
    is_deterministic_completion,
)
from chat.caching.cache_status import NAME
from config import exact_json
from scaling.database_clock import CLOCK
from scaling.response_cache.entry import Entry, decode
from scaling.response_cache.store import get_store

PREVIEW_CHARS = 200


def explain_request(body: dict[str, Any], account: Account) -> dict[str, Any]:
    """Explain whether a chat completion's body would hit for an account.

    Raises ApiError for a chain that cannot be called, and StoreUnavailable.
    """
    # LangChain takes half a second to import, and the other verbs of the command do without.
    from chat.chains.catalog import get_chain  # noqa: PLC0415

    chain = get_chain(str(body.get("model", "")))
    decision = decide(
        api="completions",
        config=chain.config,
        account_id=account.pk,
        key_fields=completion_key_fields(body),
        is_deterministic=is_deterministic_completion(body, chain.config),
    )
    if isinstance(decision, Bypass):
        reasons = {
            "disabled": "CACHE_ENABLED is false",
            "off": f"chain {decision.chain} has caching off",
            "not-deterministic": f"chain {decision.chain} caches requests with temperature 0 or a"
            " seed only",
        }
        return {"hit": False, "key": None, "why": reasons[decision.reason]}
    return explain_key(decision.key)


def explain_key(key: str) -> dict[str, Any]:
    """Return the state of the entry under a key; raises StoreUnavailable."""
    (raw,) = get_store().get_many([key])
    if raw is None:
        return {"hit": False, "key": key, "why": "nothing is stored under this key"}
    try:
        entry = decode(raw)
    except ValueError as error:
        return {"hit": False, "key": key, "why": f"the entry cannot be read: {error}"}
    why = _state(entry)
    return {
        "hit": why == "fresh",
        "key": key,
        "why": why,
        "cache": NAME,
        "chain": entry.chain,
        "age_seconds": round(entry.age_seconds(CLOCK.now()), 1),
        "fresh_for_seconds": round(entry.freshness_left(CLOCK.now()), 1),
        "content_type": entry.content_type,
        "bytes": len(entry.body),
        "stored_bytes": len(raw),
        "begins": entry.body[:PREVIEW_CHARS].decode(errors="replace"),
    }


def read_request(text: bytes) -> dict[str, Any]:
    """Return a request's body; raises ValueError with a sentence."""
    try:
        body = exact_json.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from error
    if not isinstance(body, dict) or "model" not in body:
        raise ValueError("not the body of a chat completion: it has no model")
    return body


def _state(entry: Entry) -> str:
    now = CLOCK.now()
    if entry.is_fresh(now):
        return "fresh"
    if entry.may_serve_stale_while_revalidate(now):
        return "stale, and served while one request revalidates it"
    if entry.may_serve_stale_if_error(now):
        return "stale, and served only if the provider fails"
    return "expired"
