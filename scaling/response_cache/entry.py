"""One cached answer, and its encoding in a store."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings

from scaling.response_cache.compression import Compression, compress, decompress

VERSION = 1
# No body is larger, so that no bytes of a store make a process take more memory than this.
MAX_BODY_BYTES = 16 * 1024 * 1024

# Version, compression, the header's length, and the CRC-32 of all that follows: the header as JSON,
# then the body.
_PREFIX = struct.Struct(">BBII")


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer with all that is needed to serve it again.

    `stored_at` is a Unix time. An entry is fresh for `fresh_seconds`. After that it may be served
    for `stale_seconds` more while one caller revalidates it, and for `stale_if_error_seconds` more
    while the provider fails. `volatile_texts` are texts within the body, such as the answer's id,
    that differ in every response.
    """

    body: bytes
    content_type: str
    stored_at: float
    fresh_seconds: float
    stale_seconds: float
    stale_if_error_seconds: float
    volatile_texts: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    chain: str

    def age_seconds(self, now: float) -> float:
        """Return how old it is at a Unix time; 0 when another machine's clock is ahead."""
        return max(0.0, now - self.stored_at)

    def freshness_left(self, now: float) -> float:
        """Return for how many seconds it will be fresh; below 0 it is stale."""
        return self.fresh_seconds - self.age_seconds(now)

    def is_fresh(self, now: float) -> bool:
        """Return whether it may be served as it is."""
        return self.freshness_left(now) > 0

    def may_serve_stale_while_revalidate(self, now: float) -> bool:
        """Return whether it may be served while one caller revalidates it."""
        return self.freshness_left(now) + self.stale_seconds > 0

    def may_serve_stale_if_error(self, now: float) -> bool:
        """Return whether it may be served instead of a provider's error."""
        return self.freshness_left(now) + self.stale_if_error_seconds > 0

    @property
    def retention_seconds(self) -> float:
        """For how long, from `stored_at`, a store should hold it."""
        return self.fresh_seconds + max(self.stale_seconds, self.stale_if_error_seconds)


def encode(entry: Entry) -> bytes:
    """Return an entry as bytes; a body above CACHE_COMPRESS_BYTES is compressed where that helps.

    Raises ValueError for an entry that `decode` would refuse.
    """
    if len(entry.body) > MAX_BODY_BYTES:
        raise ValueError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    body, kind = entry.body, Compression.NONE
    if len(body) > settings.CACHE_COMPRESS_BYTES:
        compressed = compress(body)
        if len(compressed) < len(body):
            body, kind = compressed, Compression.ZSTD
    fields = [
        len(entry.body),
        entry.content_type,
        entry.stored_at,
        entry.fresh_seconds,
        entry.stale_seconds,
        entry.stale_if_error_seconds,
        entry.volatile_texts,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.chain,
    ]
    # JSON has no NaN, and orjson would write null.
    if not all(math.isfinite(number) for number in fields[2:6]):  # type: ignore[arg-type]
        raise ValueError("a time is not a number")
    try:
        header = orjson.dumps(fields)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"a field has no JSON form: {error}") from error
    checksum = zlib.crc32(body, zlib.crc32(header))
    return b"".join((_PREFIX.pack(VERSION, kind, len(header), checksum), header, body))


def decode(data: bytes) -> Entry:
    """Return the entry that `encode` wrote; raises ValueError for all other bytes."""
    if len(data) < _PREFIX.size:
        raise ValueError("too short for an entry")
    version, kind, header_bytes, checksum = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"an entry of version {version}")
    rest = memoryview(data)[_PREFIX.size :]
    if zlib.crc32(rest) != checksum:
        raise ValueError("an entry with a wrong checksum")
    size_bytes, *fields = _fields(bytes(rest[:header_bytes]))
    payload = rest[header_bytes:]
    if kind == Compression.ZSTD:
        return Entry(decompress(payload, size_bytes=size_bytes), *fields)
    if kind != Compression.NONE or len(payload) != size_bytes:
        raise ValueError("an entry with another body than its header says")
    return Entry(bytes(payload), *fields)


def _fields(header: bytes) -> list[Any]:
    """Return the header's checked values."""
    values: list[Any] = orjson.loads(header)
    match values:
        case [
            int(size_bytes),
            str(),
            float() | int(),
            float() | int(),
            float() | int(),
            float() | int(),
            [*volatile_texts],
            int(),
            int(),
            str(),
        ] if 0 <= size_bytes <= MAX_BODY_BYTES and all(
            isinstance(text, str) for text in volatile_texts
        ):
            # JSON's true would pass for a number.
            if any(isinstance(value, bool) for value in values):
                raise ValueError("an entry with a truth value in its header")
            values[2:6] = map(float, values[2:6])
            values[6] = tuple(volatile_texts)
            return values
    raise ValueError("an entry with another header")
