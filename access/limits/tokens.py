"""Tokens of a key's day for model calls that no request waits for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from access.errors import LimitExceeded
from access.limits import shared
from access.limits.admission import LOCAL, REFUSED
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from uuid import UUID

# A reservation whose process died holds its tokens for so long.
RESERVATION_SECONDS = 600


class Reservation:
    """Tokens that a call under way is likely to use; `finish` replaces them by those it used."""

    def __init__(self, key_id: UUID, name: str = "") -> None:
        self._key_id = key_id
        # Empty where nothing is reserved: the key has no limit, or Redis was unavailable.
        self._name = name
        self._is_over = False

    def finish(self, tokens: int) -> None:
        """Count the tokens that the call used; the second call does nothing. Never raises.

        While Redis is unavailable none are counted: the process that used them admits no requests.
        """
        if self._is_over:
            return
        self._is_over = True
        if not self._name and tokens <= 0:
            return
        try:
            shared.finish_call(key_id=self._key_id, name=self._name, tokens=max(0, tokens))
        except RedisUnavailable:
            LOCAL.labels("finish").inc()


def reserve_tokens(
    *, key_id: UUID, tokens_per_day: int, tokens: int, waits_for_others: bool = True
) -> Reservation:
    """Reserve `tokens` of a key's day for a model call; raises LimitExceeded (429).

    `tokens_per_day` 0 is no limit. With `waits_for_others`, tokens that other calls have reserved
    count as used: then `retry_after_seconds` is a few seconds, else the rest of the day. While
    Redis is unavailable no call is refused.
    """
    if not tokens_per_day:
        return Reservation(key_id)
    name = f"{uuid.uuid4().hex}:{max(0, tokens)}"
    try:
        refused, wait_seconds = shared.reserve(
            key_id=key_id,
            tokens_per_day=tokens_per_day,
            name=name,
            seconds=RESERVATION_SECONDS,
            waits_for_others=waits_for_others,
        )
    except RedisUnavailable:
        LOCAL.labels("tokens").inc()
        return Reservation(key_id)
    if refused:
        REFUSED.labels("tokens_per_day").inc()
        raise LimitExceeded(
            "tokens_per_day", allowed=tokens_per_day, retry_after_seconds=wait_seconds
        )
    return Reservation(key_id, name)
