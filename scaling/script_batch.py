"""Run the Lua scripts of many requests in one round trip to Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from config.background import ForkSafe
from scaling.redis_client import RedisUnavailable, Script, note_refusal, run

Answer = TypeVar("Answer")

# One pipeline's commands; more wait for the next, which is sent as soon as this one is answered.
MAX_BATCH = 128


class _Entry(Generic[Answer]):
    """One caller's script call, and its reply or error."""

    __slots__ = ("answer", "args", "error", "keys", "must_lead", "parse", "script", "wake")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        parse: Callable[[Any], Answer],
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.parse = parse
        self.answer: Answer | None = None
        self.error: RedisUnavailable | None = None
        self.must_lead = False
        # A lock used as a one-time event: under gevent it costs a tenth of one.
        self.wake = threading.Lock()
        self.wake.acquire()


class ScriptBatch(ForkSafe):
    """Sends the calls that arrive during one round trip together in the next.

    The first caller leads: it sends the calls that wait, its own and others', and then passes the
    lead to the first that arrived since. So an idle process sends each call at once, and a busy one
    pays for few round trips (docs/adr/0006-what-a-request-pays-for.md has the figures).
    Invariant: at most one batch is under way, and while calls wait, one caller leads.
    """

    def reset(self) -> None:
        """Drop all calls: no thread of a forked child sends those that its parent's wait for."""
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Any]] = []
        self._is_led = False

    def call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        parse: Callable[[Any], Answer],
    ) -> Answer:
        """Return `parse(answer)`; raises RedisUnavailable, as `run` does.

        A ValueError of `parse` means that the answer makes no sense: the breaker opens.
        """
        entry = _Entry(script, keys, args, parse)
        with self._lock:
            self._waiting.append(entry)
            leads = not self._is_led
            self._is_led = True
        if not leads:
            entry.wake.acquire()
            leads = entry.must_lead
        if leads:
            self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.answer  # type: ignore[return-value]  # there is no error, so it was parsed

    def _lead(self) -> None:
        # Under gevent, greenlets that are ready to run get to their own calls first, and join.
        time.sleep(0)
        with self._lock:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        # A leader that is killed leaves this behind for the others.
        error: RedisUnavailable | None = RedisUnavailable("given up", may_have_run=True)
        try:
            run(lambda client: _execute(client, batch))
            error = None
        except RedisUnavailable as unavailable:
            error = unavailable
        finally:
            for entry in batch:
                entry.error = entry.error or error
            self._hand_over()
            for entry in batch:
                if not entry.must_lead:
                    entry.wake.release()

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._is_led = False
                return
            following = self._waiting[0]
            following.must_lead = True
        following.wake.release()


def _execute(client: Redis, batch: Sequence[_Entry[Any]]) -> None:
    answers = _send(client, batch)
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for text in {batch[i].script.text for i in unknown}:
            client.script_load(text)
        again = _send(client, [batch[i] for i in unknown])
        for index, answer in zip(unknown, again, strict=True):
            answers[index] = answer
    for entry, answer in zip(batch, answers, strict=True):
        if isinstance(answer, ResponseError):
            note_refusal(answer)
            entry.error = RedisUnavailable(str(answer), may_have_run=True)
        elif isinstance(answer, Exception):
            raise answer
        else:
            entry.answer = entry.parse(answer)


def _send(client: Redis, batch: Sequence[_Entry[Any]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for entry in batch:
        entry.script.queue(pipeline, entry.keys, entry.args)
    return pipeline.execute(raise_on_error=False)


# One for the process: the more calls share a round trip, the better.
BATCH = ScriptBatch()
