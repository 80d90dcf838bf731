"""LangChain's own cache of model calls, in the store that all nodes share.

Only calls through `invoke` are looked for: LangChain has no cache for those that are streamed.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings
from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict
from langchain_core.outputs import ChatGeneration

from chat import metrics
from chat.running.run import current_run
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache.cache import jittered
from scaling.response_cache.entry import Entry, decode, encode
from scaling.response_cache.generations import MARKS, account_mark, chain_mark
from scaling.response_cache.keys import answer_key
from scaling.response_cache.policy import CacheScope
from scaling.response_cache.store import StoreUnavailable, get_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.outputs import Generation

    from chat.running.run import Run

logger = logging.getLogger(__name__)

# How providers say that an answer is whole, in their words; any other may mean half of one.
WHOLE = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "STOP"}
)
# Of an object without a text of its own, LangChain writes the address, which may be another
# object's in another process.
ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


class ModelCallCache(BaseCache):
    """Answers of single model calls, for runs of chains with `caches_model_calls`.

    Invariant: an answer is found by the chain's edition, the run's options and the account (unless
    the chain's scope is shared) that it was stored under. Outside a run, and in one that nobody's
    account is known of, nothing is found and nothing is stored. A call is never failed: a store
    that is away, and whatever cannot be read, is a miss.

    Values are JSON of messages, so that no bytes in the store name a class to be made.
    """

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the answer of an equal call; its message says that it used no tokens."""
        run = current_run.get()
        if run is None or run.caller is None or not run.caller.reads_kept:
            return None
        if (key := _key(run, prompt, llm_string)) is None:
            return None
        # The store is waited for, and after a miss a model; others need the connection.
        release_connections()
        message = _find(key)
        metrics.MODEL_CALLS_CACHED.labels(result="miss" if message is None else "hit").inc()
        return None if message is None else [ChatGeneration(message=message)]

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer that is whole for the chain's time to live."""
        run = current_run.get()
        if run is None or run.caller is None or not run.caller.keeps or len(return_val) != 1:
            return
        message = getattr(return_val[0], "message", None)
        if not isinstance(message, AIMessage) or not _is_whole(message):
            return
        if not run.caller.keeps_shared and _is_shared(run):
            return
        if (key := _key(run, prompt, llm_string)) is not None:
            release_connections()
            _keep(run, key, message)

    def clear(self, **kwargs: Any) -> None:
        """Do nothing: `manage.py cache clear` reaches these answers too."""


_CACHE = ModelCallCache()


def install() -> ModelCallCache:
    """Make this LangChain's cache, so that models that a chain makes for itself have it too."""
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
    # What is everybody's has no account's mark either: one that was cleared would share no more.
    is_shared = _is_shared(run)
    scope = "" if is_shared else caller.account_id.hex
    mark = "" if is_shared else account_mark(caller.account_id)
    generation = MARKS.generation(chain=chain_mark(config.slug), account=mark)
    parts = (config.edition, generation, scope, dict(run.options), prompt, llm_string)
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
        (message,) = messages_from_dict(orjson.loads(entry.body))
    # LangChain trusts that what it reads has its shape.
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        logger.warning("a cached model call cannot be read: %s", type(error).__name__)
        return None
    if not isinstance(message, AIMessage) or not entry.is_fresh(CLOCK.now()):
        return None
    return message.model_copy(update={"usage_metadata": NO_USAGE.copy()})


def _keep(run: Run, key: str, message: AIMessage) -> None:
    assert run.chain is not None  # noqa: S101  (it is part of the key)
    usage = message.usage_metadata or NO_USAGE
    # An id would be that of one message in two places.
    nameless = message.model_copy(update={"id": None})
    try:
        body = orjson.dumps(messages_to_dict([nameless]))
    # What has no place in JSON would come back as something else.
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
        renewed=(),
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        chain=run.chain.slug,
    )
    try:
        get_store().set(key, encode(entry), entry.keep_seconds)
    except StoreUnavailable as error:
        logger.debug("a model call was not stored: %s", error)


def _is_whole(message: AIMessage) -> bool:
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    return isinstance(reason, str) and reason in WHOLE and not message.invalid_tool_calls
