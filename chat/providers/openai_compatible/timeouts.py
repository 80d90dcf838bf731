"""The four timeouts of a call: connect, first token, silence between tokens, total."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chat.providers.errors import FirstTokenTimeout
from chat.providers.openai_compatible.errors import SilenceTimeout, TotalTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each part of a call may take, in seconds."""

    connect_seconds: float
    first_token_seconds: float
    silence_seconds: float
    total_seconds: float


class Deadline:
    """The moment until which the provider must send the next piece of its answer.

    A unary answer has only the total. The first token of a stream is counted from the beginning,
    connecting included, and comments between the events of a stream change nothing.
    """

    __slots__ = ("_end", "_error", "_silence_seconds", "_until", "timeouts")

    def __init__(self, timeouts: Timeouts, *, is_stream: bool) -> None:
        self.timeouts = timeouts
        now = time.monotonic()
        self._end = now + timeouts.total_seconds
        self._silence_seconds = timeouts.silence_seconds
        self._set(timeouts.first_token_seconds if is_stream else None, FirstTokenTimeout, now)

    def renew(self) -> None:
        """Count the silence from now on: a token came."""
        self._set(self._silence_seconds, SilenceTimeout, time.monotonic())

    def end_within(self, seconds: float) -> None:
        """Allow only so much time for each piece that is left."""
        self._silence_seconds = min(self._silence_seconds, seconds)
        self.renew()

    def seconds_left(self) -> float:
        """Return the time for the next piece; raises the timeout whose time is over."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> TimeoutError:
        """Return the timeout that comes first."""
        return self._error()

    def _set(self, seconds: float | None, error: type[TimeoutError], now: float) -> None:
        if seconds is None or now + seconds > self._end:
            seconds, error = self._end - now, TotalTimeout
        self._until = now + seconds
        self._error = error
