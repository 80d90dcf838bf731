"""Where each account's last write stands in the log, shared by all processes in Redis.

A scope is an account's id, or SITE for what staff change and all accounts read (keys, chains). Its
position is kept for POSITION_SECONDS; a replica that is later than that gets no reads. What Redis
does not say is no proof that nothing was written, so `required` then returns UNKNOWN, and the read
goes to the primary: while Redis is away, and for POSITION_SECONDS after a restart or a failover of
Redis, which may have lost its last writes, or a jump of its clock, by which it forgets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings

from scaling.redis_client import RedisUnavailable, Script, run
from scaling.replicas.metrics import POSITIONS_UNSAVED
from scaling.replicas.position import Position
from scaling.replicas.topology import TOPOLOGY
from scaling.script_batch import BATCH

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

SITE = "site"
MAX_REMEMBERED = 50_000
# How long an answer is held back while Redis does not take its position; the replicas in rotation
# have mostly replayed it by then.
HOLD_SECONDS = 2.0
HOLD_STEP_SECONDS = 0.02
# A clock is set by less without a word: so much earlier than they should positions may be gone.
JUMP_SECONDS = 1.0

# The greater of two positions stays, in whatever order writers on several nodes come.
_RECORD = Script("""
local kept = redis.call('GET', KEYS[1])
if not kept or kept < ARGV[1] then kept = ARGV[1] end
redis.call('SET', KEYS[1], kept, 'PX', ARGV[2])
return kept
""")
_LOOK_UP = Script("return redis.call('GET', KEYS[1]) or ''")
# The identity of Redis's memory: who serves it, and since when. Another run or an empty memory
# begins a new epoch.
_EPOCH = Script("""
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
local kept = redis.call('GET', KEYS[1])
if kept and string.sub(kept, 1, string.len(ARGV[1]) + 1) == ARGV[1] .. ' ' then
    return {now, string.sub(kept, string.len(ARGV[1]) + 2)}
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. now)
return {now, now}
""")
_EPOCH_KEY = "headrace:positions:epoch"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class Positions:
    """This process's view of the shared positions.

    It remembers what it recorded itself, so that it never misses its own writes, and gives Redis
    again what Redis did not take or may have lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, tuple[float, Position]] = OrderedDict()
        self._unsaved: dict[str, Position] = {}
        self._epoch = ""
        self._began_at = 0.0
        self._ahead = (0.0, 0.0)
        # A position that Redis does not have is proof from this moment of time.monotonic() on.
        self._trusted_from = float("inf")

    def required(self, scope: str) -> Position | _Unknown | None:
        """Return what a reader of a scope must see: a position, nothing, or nobody knows.

        One round trip to Redis, shared with what other requests ask of it.
        """
        own = self._own(scope)
        try:
            found: Position | None = BATCH.call(_LOOK_UP, (_key(scope),), (), _position)
        except RedisUnavailable:
            return UNKNOWN
        if found is None:
            return own if time.monotonic() >= self._trusted_from else UNKNOWN
        return found if own is None else max(found, own)

    def record(self, scopes: Iterable[str], position: Position) -> None:
        """Have later reads of these scopes see `position`; returns when that is sure.

        If Redis does not take it, waits for Redis or for the replicas in rotation, at most
        HOLD_SECONDS.
        """
        scopes = list(scopes)
        now = time.monotonic()
        with self._lock:
            for scope in scopes:
                _, before = self._recent.get(scope, (now, position))
                self._recent[scope] = (now, max(position, before))
                self._recent.move_to_end(scope)
            while len(self._recent) > MAX_REMEMBERED:
                self._recent.popitem(last=False)
        if self._save(dict.fromkeys(scopes, position)):
            return
        with self._lock:
            for scope in scopes:
                # Another writer of the account may have come here with a later one.
                self._unsaved[scope] = max(position, self._unsaved.get(scope, position))
        POSITIONS_UNSAVED.labels(self._hold(scopes, position)).inc()

    def tick(self) -> None:
        """Find out whether Redis still has its memory, and give it what it lacks; for the watcher.

        Raises RedisUnavailable.
        """
        asked_at = time.monotonic()
        epoch, age, redis_time = run(_ask_epoch)
        now = time.monotonic()
        oldest = now - settings.POSITION_SECONDS
        # What Redis's clock was ahead of ours, at least and at most.
        ahead, before = (redis_time - now, redis_time - asked_at), self._ahead
        self._ahead = ahead
        # Redis forgets by its own clock, and has forgotten early.
        has_jumped = epoch == self._epoch and ahead[0] > before[1] + JUMP_SECONDS
        with self._lock:
            while self._recent and next(iter(self._recent.values()))[0] < oldest:
                self._recent.popitem(last=False)
            if epoch != self._epoch or has_jumped:
                if self._epoch:
                    what = "redis's clock jumped" if has_jumped else "redis restarted"
                    logger.warning("%s: reads go to the primary for a while", what)
                self._epoch = epoch
                self._began_at = now if has_jumped else now - age
                self._unsaved = {scope: kept for scope, (_, kept) in self._recent.items()}
            self._trusted_from = self._began_at + settings.POSITION_SECONDS
            unsaved = dict(self._unsaved)
        if unsaved and self._save(unsaved):
            with self._lock:
                for scope, position in unsaved.items():
                    if self._unsaved.get(scope) == position:
                        del self._unsaved[scope]

    def lose(self) -> None:
        """Note that the watcher does not reach Redis; other processes' writes may be missing."""
        self._trusted_from = float("inf")

    def _own(self, scope: str) -> Position | None:
        kept = self._recent.get(scope)
        if kept is None or kept[0] < time.monotonic() - settings.POSITION_SECONDS:
            return None
        return kept[1]

    def _save(self, positions: dict[str, Position]) -> bool:
        milliseconds = int(settings.POSITION_SECONDS * 1000)

        def work(client: Redis) -> None:
            pipeline = client.pipeline(transaction=False)
            for scope, position in positions.items():
                pipeline.eval(_RECORD.text, 1, _key(scope), _sortable(position), milliseconds)
            pipeline.execute()

        try:
            if len(positions) == 1:
                [(scope, position)] = positions.items()
                BATCH.call(
                    _RECORD, (_key(scope),), (_sortable(position), milliseconds), lambda _: None
                )
            else:
                run(work)
        except RedisUnavailable:
            return False
        return True

    def _hold(self, scopes: list[str], position: Position) -> str:
        deadline = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < deadline:
            if TOPOLOGY.have_replayed(position):
                return "replayed"
            if self._unsaved.keys().isdisjoint(scopes):
                return "saved_late"
            time.sleep(HOLD_STEP_SECONDS)
        return "given_up"


POSITIONS = Positions()


def _key(scope: str) -> str:
    return f"headrace:position:{scope}"


def _sortable(position: Position) -> str:
    """Write a position so that texts sort as positions do."""
    return f"{position.timeline:08X}-{position.lsn:016X}"


def _position(answer: Any) -> Position | None:
    text = answer.decode() if isinstance(answer, bytes) else answer
    return Position.parse(text) if text else None


def _ask_epoch(client: Redis) -> tuple[str, float, float]:
    """Return who serves Redis's memory, for how many seconds, and the Unix time by its clock."""
    info: dict[str, Any] = client.info("server")
    # A cluster's client returns one answer a server.
    runs = [info["run_id"]] if "run_id" in info else sorted(i["run_id"] for i in info.values())
    epoch = "".join(runs)
    now, since = (int(part) for part in _EPOCH(client, (_EPOCH_KEY,), (epoch,)))
    return f"{epoch} {since}", max(0, now - since) / 1e6, now / 1e6
