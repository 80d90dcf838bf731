"""Cached answers in Redis: alone, behind Sentinels, or a cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from redis.cluster import RedisCluster

from scaling.database_clock import CLOCK
from scaling.redis_client import RedisUnavailable, Script, run
from scaling.response_cache.store import ALL, MAX_GENERATIONS, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis import Redis

T = TypeVar("T")

PREFIX = "headrace:cache:"
VALUES = f"{PREFIX}value:"
GENERATIONS_KEY = f"{PREFIX}marks"
SCAN_BATCH = 500

_RENEW_IF = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
_DELETE_IF = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")
# Numbers come and go as text: Lua's own would lose the last digits of a time in milliseconds when
# it writes them. Milliseconds that `all` begins with are later than any generation before.
_READ_GENERATIONS = Script(f"""
redis.call('HSETNX', KEYS[1], '{ALL}', ARGV[1])
return redis.call('HGETALL', KEYS[1])
""")
_BUMP_GENERATION = Script(f"""
redis.call('HSETNX', KEYS[1], '{ALL}', ARGV[2])
local is_new = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
if is_new and redis.call('HLEN', KEYS[1]) >= {MAX_GENERATIONS} then
  redis.call('HINCRBY', KEYS[1], '{ALL}', 1)
  local text = redis.call('HGET', KEYS[1], '{ALL}')
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], '{ALL}', text)
else
  redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
end
return 1
""")


class RedisStore:
    """A `Store` in one of Django's caches; each call is one round trip, a node in a cluster."""

    def __init__(self, *, alias: str) -> None:
        self._alias = alias

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys."""
        if not keys:
            return []
        names = [VALUES + key for key in keys]

        def work(client: Redis) -> list[Any]:
            # The keys of one call may be on several nodes.
            fetch = client.mget_nonatomic if isinstance(client, RedisCluster) else client.mget
            values = fetch(names)
            if not isinstance(values, list) or len(values) != len(names):
                raise ValueError("not an answer to MGET")
            return values

        return self._run(work)

    def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Store a value."""
        self._run(lambda client: client.set(VALUES + key, value, px=_milliseconds(ttl_seconds)))

    def set_many(self, keys: Sequence[str], value: bytes, ttl_seconds: float) -> None:
        """Store one value under several keys, in one round trip."""
        ttl = _milliseconds(ttl_seconds)

        def work(client: Redis) -> None:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.set(VALUES + key, value, px=ttl)
            pipeline.execute()

        if len(keys) == 1:
            self.set(keys[0], value, ttl_seconds)
        elif keys:
            self._run(work)

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._run(lambda client: client.delete(VALUES + key))

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Take a lock."""
        ttl = _milliseconds(ttl_seconds)
        return bool(self._run(lambda client: client.set(VALUES + key, value, px=ttl, nx=True)))

    def renew_if(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Prolong a lock."""
        return bool(self._script(_RENEW_IF, VALUES + key, value, _milliseconds(ttl_seconds)))

    def delete_if(self, key: str, value: bytes) -> bool:
        """Release a lock."""
        return bool(self._script(_DELETE_IF, VALUES + key, value))

    def read_generations(self) -> dict[str, int]:
        """Return all generation counters by name."""

        def work(client: Redis) -> dict[str, int]:
            found: dict[Any, Any] = client.hgetall(GENERATIONS_KEY)
            if ALL.encode() not in found:
                pairs = _READ_GENERATIONS(client, [GENERATIONS_KEY], [_now_milliseconds()])
                found = dict(zip(pairs[::2], pairs[1::2], strict=True))
            # Bytes that are neither text nor numbers are a ValueError, which `run` handles.
            return {name.decode(): int(value) for name, value in found.items()}

        return self._run(work)

    def bump_generation(self, name: str) -> None:
        """Begin a new generation."""
        self._script(_BUMP_GENERATION, GENERATIONS_KEY, name, _now_milliseconds())

    def count(self) -> Iterator[list[tuple[str, int]]]:
        """Yield batches of keys with their sizes; two round trips for each SCAN_BATCH looked at."""
        nodes = self._run(
            lambda client: client.get_primaries() if isinstance(client, RedisCluster) else [None]
        )
        for node in nodes:
            cursor = -1
            while cursor != 0:
                cursor, batch = self._scan(max(cursor, 0), node)
                yield batch

    def _scan(self, cursor: int, node: Any) -> tuple[int, list[tuple[str, int]]]:
        def work(client: Redis) -> tuple[int, list[tuple[str, int]]]:
            options = {} if node is None else {"target_nodes": node}
            answer: Any = client.scan(cursor, match=f"{VALUES}*", count=SCAN_BATCH, **options)
            following, names = answer
            if isinstance(following, dict):
                # A cluster returns a cursor for each node.
                following = next(iter(following.values()))
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.strlen(name)
            sizes = pipeline.execute() if names else []
            keys = [name.decode(errors="replace").removeprefix(VALUES) for name in names]
            # A key that has just expired has no size.
            return following, [pair for pair in zip(keys, sizes, strict=True) if pair[1]]

        return self._run(work)

    def _script(self, script: Script, key: str, *args: str | bytes | int) -> Any:
        return self._run(lambda client: script(client, [key], args))

    def _run(self, work: Callable[[Redis], T]) -> T:
        try:
            return run(work, alias=self._alias)
        except RedisUnavailable as error:
            raise StoreUnavailable(str(error), may_have_run=error.may_have_run) from error


def make_store() -> RedisStore:
    """Return the store on the Redis of CACHE_URL."""
    return RedisStore(alias="responses" if "responses" in settings.CACHES else "default")


def _milliseconds(ttl_seconds: float) -> int:
    return max(1, math.ceil(ttl_seconds * 1000))


def _now_milliseconds() -> int:
    return int(CLOCK.now() * 1000)
