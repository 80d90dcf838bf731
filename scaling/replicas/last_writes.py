"""The position of each account's last write in the log, shared by all processes in Redis.

A scope is an account's id, or SHARED_SCOPE for rows that staff change and all accounts read (keys,
chains). Its position is stored for POSITION_SECONDS; a replica that lags more than that gets no
reads. While the primary is gone the positions of writes that a replica lacks stay: nothing else
shows that the replica lacks them. No position in Redis is no proof that nothing was written, so
`required` may return UNKNOWN, and the read goes to the primary: while Redis is unavailable, and for
POSITION_SECONDS after a restart or a failover of Redis, which may have lost its last writes, or a
jump of its clock, by which its keys expire.
"""

from __future__ import annotations

import itertools
import logging
import math
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

SHARED_SCOPE = "site"
MAX_RECENT = 50_000
# How long an answer waits while Redis does not take its position; the replicas in rotation have
# mostly replayed it by then.
REPLAY_WAIT_SECONDS = 2.0
REPLAY_WAIT_STEP_SECONDS = 0.02
# How long Redis has the position of a write that a replica lacks while the primary is gone; renewed
# in time. Also so long after this process ended.
RETAINED_SECONDS = 3600.0
# By so much the watcher may see late what a replica has replayed.
WATCH_SLACK_SECONDS = 5.0
# A Redis that failed for a moment is trusted again so soon after its retry time.
RECOVERY_SECONDS = 2.0
# A clock may be set by less unnoticed: so much too early positions may be gone.
JUMP_SECONDS = 1.0

# The greater of two positions stays, whichever node's writer comes first.
_RECORD = Script("""
local stored = redis.call('GET', KEYS[1])
if not stored or stored < ARGV[1] then stored = ARGV[1] end
redis.call('SET', KEYS[1], stored, 'PX', ARGV[2])
return stored
""")
_LOOK_UP = Script("return redis.call('GET', KEYS[1]) or ''")
# The identity of Redis's memory: its server's run, and since when. Another run or an empty memory
# starts a new epoch.
_EPOCH = Script("""
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
local stored = redis.call('GET', KEYS[1])
if stored and string.sub(stored, 1, string.len(ARGV[1]) + 1) == ARGV[1] .. ' ' then
    return {now, string.sub(stored, string.len(ARGV[1]) + 2)}
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. now)
return {now, now}
""")
_EPOCH_KEY = "headrace:positions:epoch"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


class LastWrites:
    """This process's view of the shared positions.

    It has a copy of the positions that it recorded itself, so that it never misses its own writes,
    and stores again those that Redis did not take or may have lost.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin as a new process does, which has recorded no write and proved nothing."""
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, tuple[float, Position]] = OrderedDict()
        self._unsaved: dict[str, Position] = {}
        # Stored for RETAINED_SECONDS, since the moment after it.
        self._retained: dict[str, Position] = {}
        self._retained_at = 0.0
        self._epoch = ""
        # When the epoch began, by time.monotonic().
        self.began_at = 0.0
        self._ahead = (0.0, 0.0)
        # A position that Redis does not have is proof from this moment of time.monotonic() on.
        self.trusted_from = float("inf")
        # When a tick last found that it is.
        self._trusted_at = -math.inf

    @property
    def is_trusted(self) -> bool:
        """Whether a position that Redis does not have is proof, at the last tick."""
        return time.monotonic() >= self.trusted_from

    @property
    def is_recovering(self) -> bool:
        """Whether Redis was trusted a moment ago, so that it may have failed for a moment only."""
        most = settings.REDIS_RETRY_SECONDS + RECOVERY_SECONDS
        return time.monotonic() - self._trusted_at < most

    def required(self, scope: str) -> Position | _Unknown | None:
        """Return the position that a read of a scope must show, None, or UNKNOWN.

        One round trip to Redis, shared with other requests.
        """
        own = self._own(scope)
        try:
            found: Position | None = BATCH.call(_LOOK_UP, (_key(scope),), (), _position)
        except RedisUnavailable:
            return UNKNOWN
        if found is None:
            return own if self.is_trusted else UNKNOWN
        return found if own is None else max(found, own)

    def record(self, scopes: Iterable[str], position: Position) -> None:
        """Make later reads of these scopes show `position`; returns when it is stored.

        If Redis does not take it, waits for Redis or for the replicas in rotation, at most
        REPLAY_WAIT_SECONDS.
        """
        scopes = list(scopes)
        now = time.monotonic()
        with self._lock:
            for scope in scopes:
                _, before = self._recent.get(scope, (now, position))
                self._recent[scope] = (now, max(position, before))
                self._recent.move_to_end(scope)
            while len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        if self._save(dict.fromkeys(scopes, position)):
            return
        with self._lock:
            for scope in scopes:
                # Another writer of the account may have come here with a later one.
                self._unsaved[scope] = max(position, self._unsaved.get(scope, position))
        POSITIONS_UNSAVED.labels(self._wait_for_replicas(scopes, position)).inc()

    def tick(self) -> None:
        """Detect a loss of Redis's memory, and store the missing positions again; for the watcher.

        Raises RedisUnavailable.
        """
        sent_at = time.monotonic()
        epoch, age, redis_time = run(read_epoch)
        now = time.monotonic()
        oldest = now - settings.POSITION_SECONDS
        is_primary_gone = TOPOLOGY.primary.is_in_doubt
        # How far Redis's clock was ahead of ours, at least and at most.
        ahead, before = (redis_time - now, redis_time - sent_at), self._ahead
        self._ahead = ahead
        # Keys expire by Redis's own clock, and have expired early.
        has_jumped = epoch == self._epoch and ahead[0] > before[1] + JUMP_SECONDS
        with self._lock:
            if is_primary_gone:
                self._retain(now)
            else:
                self._retained.clear()
            while self._recent and next(iter(self._recent.values()))[0] < oldest:
                self._recent.popitem(last=False)
            if epoch != self._epoch or has_jumped:
                if self._epoch:
                    what = "redis's clock jumped" if has_jumped else "redis restarted"
                    logger.warning("%s: reads go to the primary for a while", what)
                self._epoch = epoch
                self.began_at = now if has_jumped else now - age
                self._unsaved = {scope: stored for scope, (_, stored) in self._recent.items()}
            self.trusted_from = self.began_at + settings.POSITION_SECONDS
            if now >= self.trusted_from:
                self._trusted_at = now
            unsaved = dict(self._unsaved)
        seconds = RETAINED_SECONDS if is_primary_gone else settings.POSITION_SECONDS
        if unsaved and self._save(unsaved, seconds=seconds):
            with self._lock:
                for scope, position in unsaved.items():
                    if self._unsaved.get(scope) == position:
                        del self._unsaved[scope]

    def distrust(self) -> None:
        """Return UNKNOWN from here on: Redis is unreachable, and writes may be missing."""
        self.trusted_from = float("inf")

    def _own(self, scope: str) -> Position | None:
        stored = self._recent.get(scope)
        if stored is None or stored[0] < time.monotonic() - settings.POSITION_SECONDS:
            return None
        return stored[1]

    def _retain(self, now: float) -> None:
        """Have the positions stored again whose writes a replica lacks, and never forget them."""
        if now - self._retained_at > RETAINED_SECONDS / 4:
            self._retained.clear()
            self._retained_at = now
        # A replica that lacks earlier ones lags too much to be read.
        oldest = TOPOLOGY.log.heard_at - settings.REPLICA_MAX_LAG_SECONDS - WATCH_SLACK_SECONDS
        recent = itertools.takewhile(
            lambda item: item[1][0] >= oldest, reversed(self._recent.items())
        )
        for scope, (_, position) in list(recent):
            if not TOPOLOGY.is_missed(position):
                continue
            self._recent[scope] = (now, position)
            self._recent.move_to_end(scope)
            if self._retained.get(scope) != position:
                self._retained[scope] = position
                self._unsaved[scope] = max(position, self._unsaved.get(scope, position))

    def _save(self, positions: dict[str, Position], *, seconds: float | None = None) -> bool:
        milliseconds = int((seconds or settings.POSITION_SECONDS) * 1000)

        def work(client: Redis) -> None:
            pipeline = client.pipeline(transaction=False)
            for scope, position in positions.items():
                pipeline.eval(_RECORD.text, 1, _key(scope), sortable(position), milliseconds)
            pipeline.execute()

        try:
            if len(positions) == 1:
                [(scope, position)] = positions.items()
                BATCH.call(
                    _RECORD, (_key(scope),), (sortable(position), milliseconds), lambda _: None
                )
            else:
                run(work)
        except RedisUnavailable:
            return False
        return True

    def _wait_for_replicas(self, scopes: list[str], position: Position) -> str:
        deadline = time.monotonic() + REPLAY_WAIT_SECONDS
        while time.monotonic() < deadline:
            if TOPOLOGY.have_replayed(position):
                return "replayed"
            if self._unsaved.keys().isdisjoint(scopes):
                return "saved_late"
            time.sleep(REPLAY_WAIT_STEP_SECONDS)
        return "given_up"


LAST_WRITES = LastWrites()


def _key(scope: str) -> str:
    return f"headrace:position:{scope}"


def sortable(position: Position) -> str:
    """Return a position as a text that sorts as positions do."""
    return f"{position.timeline:08X}-{position.lsn:016X}"


def _position(answer: Any) -> Position | None:
    text = answer.decode() if isinstance(answer, bytes) else answer
    return Position.parse(text) if text else None


def read_epoch(client: Redis) -> tuple[str, float, float]:
    """Return the epoch of Redis's memory, its age in seconds, and Redis's Unix time."""
    info: dict[str, Any] = client.info("server")
    # A cluster's client returns one answer a server.
    runs = [info["run_id"]] if "run_id" in info else sorted(i["run_id"] for i in info.values())
    epoch = "".join(runs)
    now, since = (int(part) for part in _EPOCH(client, (_EPOCH_KEY,), (epoch,)))
    return f"{epoch} {since}", max(0, now - since) / 1e6, now / 1e6
