"""LangChain's own cache of model calls, in the store that all nodes share.

Only calls through `invoke` are looked up: LangChain has no cache for streamed calls.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from django.conf import settings
from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict
from langchain_core.outputs import ChatGeneration

from chat import metrics
from chat.running.run import current_run
from config import exact_json
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache.cache import jittered
from scaling.response_cache.entry import Entry, decode, encode
from scaling.response_cache.generations import GENERATIONS, account_counter, chain_counter
from scaling.response_cache.keys import answer_key
from scaling.response_cache.policy import CacheScope
from scaling.response_cache.store import StoreUnavailable, get_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.outputs import Generation

    from chat.running.run import Run

logger = logging.getLogger(__name__)

# The finish reasons of complete answers, in the providers' words; any other may mean half of one.
FINISH_REASONS = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "STOP"}
)
# LangChain writes the address of an object without a text of its own; in another process it may be
# another object's.
ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


class ModelCallCache(BaseCache):
    """Answers of single model calls, for runs of chains with `caches_model_calls`.

    Invariant: an answer is found by the chain's revision, the run's options and the account (unless
    the chain's scope is shared) that it was stored under. Outside a run, and in a run without an
    account, nothing is found and nothing is stored. It fails no call: a store that is unavailable,
    or an entry that cannot be read, is a miss.

    Values are JSON of messages, so that no bytes in the store name a class to be made.
    """

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the answer of an equal call; its message has a usage of no tokens."""
        run = current_run.get()
        if run is None or run.caller is None or not run.caller.reads_cached:
            return None
        if (key := _key(run, prompt, llm_string)) is None:
            return None
        # The wait for the store, and after a miss for a model, needs no connection; others do.
        release_connections()
        message = _find(key)
        metrics.MODEL_CALLS_CACHED.labels(result="miss" if message is None else "hit").inc()
        return None if message is None else [ChatGeneration(message=message)]

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store a complete answer for the chain's time to live."""
        run = current_run.get()
        if run is None or run.caller is None or not run.caller.stores or len(return_val) != 1:
            return
        message = getattr(return_val[0], "message", None)
        if not isinstance(message, AIMessage) or not _is_complete(message):
            return
        if not run.caller.stores_shared and _is_shared(run):
            return
        if (key := _key(run, prompt, llm_string)) is not None:
            release_connections()
            _store(run, key, message)

    def clear(self, **kwargs: Any) -> None:
        """Do nothing: `manage.py cache clear` reaches these answers too."""


_CACHE = ModelCallCache()


def install() -> ModelCallCache:
    """Set LangChain's cache, so that models that a chain makes for itself have it too."""
    if get_llm_cache() is not _CACHE:
        set_llm_cache(_CACHE)
    return _CACHE


def _key(run: Run, prompt: str, llm_string: str) -> str | None:
    """Return a call's key; None for one that is not cached."""
    config, caller = run.chain, run.caller
    if config is None or caller is None or not config.caches_model_calls:
        return None
    if ADDRESS.search(llm_string):
        return None
    # A shared answer has no account's generation either: an account that was cleared would share no
    # more.
    is_shared = _is_shared(run)
    scope = "" if is_shared else caller.account_id.hex
    account = "" if is_shared else account_counter(caller.account_id)
    generation = GENERATIONS.generation(chain=chain_counter(config.slug), account=account)
    parts = (config.revision, generation, scope, dict(run.options), prompt, llm_string)
    try:
        return answer_key(config.slug, "model call", *parts)
    # A lone surrogate in a text, for one.
    except TypeError:
        return None


def _is_shared(run: Run) -> bool:
    return run.chain is not None and run.chain.cache.scope is CacheScope.SHARED


def _find(key: str) -> AIMessage | None:
    try:
        (raw,) = get_store().get_many([key])
    except StoreUnavailable:
        return None
    if raw is None:
        return None
    try:
        entry = decode(raw)
        (message,) = messages_from_dict(exact_json.loads(entry.body))
    # LangChain does not check the shape of what it reads.
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        logger.warning("a cached model call cannot be read: %s", type(error).__name__)
        return None
    if not isinstance(message, AIMessage) or not entry.is_fresh(CLOCK.now()):
        return None
    return message.model_copy(update={"usage_metadata": NO_USAGE.copy()})


def _store(run: Run, key: str, message: AIMessage) -> None:
    assert run.chain is not None  # noqa: S101  (it is part of the key)
    usage = message.usage_metadata or NO_USAGE
    # Two messages would have one id.
    nameless = message.model_copy(update={"id": None})
    try:
        body = exact_json.dumps(messages_to_dict([nameless]))
    # A value without a JSON form would come back as something else.
    except TypeError:
        return
    if len(body) > settings.CACHE_MAX_ENTRY_BYTES:
        return
    entry = Entry(
        body=body,
        content_type="application/json",
        stored_at=CLOCK.now(),
        fresh_seconds=jittered(run.chain.cache.ttl_seconds),
        stale_seconds=0,
        stale_if_error_seconds=0,
        volatile_texts=(),
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        chain=run.chain.slug,
    )
    try:
        get_store().set(key, encode(entry), entry.retention_seconds)
    except StoreUnavailable as error:
        logger.debug("a model call was not stored: %s", error)


def _is_complete(message: AIMessage) -> bool:
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    return isinstance(reason, str) and reason in FINISH_REASONS and not message.invalid_tool_calls
