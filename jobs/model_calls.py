"""Model calls that a job has paid for, kept for its later attempts."""

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

from access.limits import count_tokens
from jobs import metrics
from jobs.models import ModelCall
from jobs.transitions import without_nul
from scaling.database import release_connections

logger = logging.getLogger(__name__)


class JobModelCalls:
    """The answers of one job, as its run sees them (chat.run.ModelAnswers).

    A call is named by the models, the messages and the options, and by how often the same was asked
    before in this attempt: a chain that asks twice gets two answers, also when it is run again.
    What is newly paid for counts against the day's tokens of the key at once.
    """

    def __init__(self, job_id: uuid.UUID, api_key_id: uuid.UUID | None, *, is_first: bool) -> None:
        self._job_id = job_id
        self._api_key_id = api_key_id
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, Any] = {} if is_first else _load(job_id)

    def key(self, call: Mapping[str, Any]) -> str:
        """Return the name of a call that is about to be made."""
        text = orjson.dumps(
            call, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        )
        digest = hashlib.blake2b(text, digest_size=24).hexdigest()
        self._seen[digest] += 1
        return f"{digest}:{self._seen[digest]}"

    def find(self, key: str) -> AIMessage | None:
        """Return the answer that an earlier attempt got."""
        if (kept := self._kept.get(key)) is None:
            return None
        message = messages_from_dict([kept])[0]
        if not isinstance(message, AIMessage):
            return None
        metrics.CALLS_REPLAYED.inc()
        return message

    def keep(self, key: str, answer: AIMessage) -> None:
        """Store an answer; a database that is away costs the next attempt this call, no more."""
        if self._api_key_id is not None and (usage := answer.usage_metadata):
            count_tokens(key_id=self._api_key_id, tokens=usage["total_tokens"])
        text = without_nul(orjson.dumps(messages_to_dict([answer])[0], default=str).decode())
        try:
            ModelCall.objects.bulk_create(
                [ModelCall(job_id=self._job_id, key=key, answer=orjson.loads(text))],
                ignore_conflicts=True,
            )
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("job %s: a model call was not kept: %s", self._job_id.hex, error)
        finally:
            release_connections()


def _load(job_id: uuid.UUID) -> dict[str, Any]:
    try:
        return dict(ModelCall.objects.filter(job_id=job_id).values_list("key", "answer"))
    finally:
        release_connections()
