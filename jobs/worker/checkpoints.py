"""Answered model calls of a job, stored for its later attempts."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
from django.db import DatabaseError
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict
from psycopg_pool import PoolTimeout

from access.limits import Reservation, count_tokens, reserve_tokens
from config import exact_json
from jobs import metrics
from jobs.models import ModelCall
from jobs.queue.claims import ClaimedJob
from jobs.queue.transitions import without_nul
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

# The tokens that a call is likely to use, from its question alone; a guess that fits English.
CHARS_A_TOKEN = 4
COMPLETION_TOKENS = 500


class JobModelCalls:
    """The answers of one job, as its run sees them (chat.running.run.ModelAnswers).

    A call's key is made of the models, the messages and the options, and of the number of equal
    calls before in this attempt: a chain that repeats a call gets two answers, also when it is run
    again. A new call's tokens count against the key's day at once, and are reserved before it, so
    that a day that is used up ends the attempt (LimitExceeded).
    """

    def __init__(self, claimed: ClaimedJob) -> None:
        self._job_id = job_id = claimed.job_id
        self._claimed = claimed
        is_first = claimed.is_first
        self._reserved: dict[str, Reservation] = {}
        # Tokens of this attempt that are counted, or were by an earlier one.
        self._settled = 0
        self._seen: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._stored: dict[str, Any] = {} if is_first else _load(job_id)

    def key(self, call: Mapping[str, Any]) -> str:
        """Return the key of a call that is about to be made."""
        text = exact_json.dumps(
            call, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        )
        digest = hashlib.blake2b(text, digest_size=24).hexdigest()
        self._seen[digest] += 1
        name = f"{digest}:{self._seen[digest]}"
        self._sizes[name] = len(text) // CHARS_A_TOKEN + COMPLETION_TOKENS
        return name

    def find(self, key: str) -> AIMessage | None:
        """Return the answer that an earlier attempt got, else reserve tokens for a new one."""
        size = self._sizes.pop(key, 0)
        if (stored := self._stored.get(key)) is None:
            self._reserve(key, size)
            return None
        message = messages_from_dict([stored])[0]
        if not isinstance(message, AIMessage):
            return None
        metrics.CALLS_REPLAYED.inc()
        self._settled += _tokens_of(message)
        return message

    def keep(self, key: str, answer: AIMessage) -> None:
        """Store an answer; if the database is unavailable, the next attempt repeats this call."""
        self._finish(key, _tokens_of(answer))
        text = without_nul(exact_json.dumps(messages_to_dict([answer])[0], default=str).decode())
        try:
            ModelCall.objects.bulk_create(
                [ModelCall(job_id=self._job_id, key=key, answer=exact_json.loads(text))],
                ignore_conflicts=True,
            )
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("job %s: a model call was not stored: %s", self._job_id.hex, error)
        finally:
            release_connections()

    def settle(self, billed_tokens: int) -> None:
        """Count the tokens of the attempt beyond its answers, such as streams that were cut off.

        `billed_tokens` is the run's count of all (Run.billed_tokens).
        """
        rest = max(0, billed_tokens - self._settled)
        open_calls, self._reserved = list(self._reserved.values()), {}
        for reservation in open_calls:
            reservation.finish(rest)
            rest = 0
        if rest and self._claimed.api_key_id is not None:
            count_tokens(key_id=self._claimed.api_key_id, tokens=rest)

    def _reserve(self, key: str, tokens: int) -> None:
        claimed = self._claimed
        if claimed.api_key_id is None:
            return
        self._reserved[key] = reserve_tokens(
            key_id=claimed.api_key_id,
            tokens_per_day=claimed.tokens_per_day,
            tokens=tokens,
            waits_for_others=not claimed.is_waited_for,
        )

    def _finish(self, key: str, tokens: int) -> None:
        self._settled += tokens
        if (reservation := self._reserved.pop(key, None)) is not None:
            reservation.finish(tokens)


def _tokens_of(answer: AIMessage) -> int:
    return answer.usage_metadata["total_tokens"] if answer.usage_metadata else 0


def _load(job_id: uuid.UUID) -> dict[str, Any]:
    try:
        return dict(ModelCall.objects.filter(job_id=job_id).values_list("key", "answer"))
    finally:
        release_connections()
