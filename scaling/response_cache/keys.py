"""Stable keys of answers."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from config import exact_json
from config.slices import in_slices

DIGEST_BYTES = 20
SLICE_BYTES = 4 * 1024 * 1024


def answer_key(name: str, *parts: Any) -> str:
    """Return `name:digest` of everything that determines an answer; `parts` must be JSON.

    The order of an object's members does not matter. BLAKE2b, so that no client can make two
    requests of one digest.
    """
    text = exact_json.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    view = memoryview(text)
    digest = hashlib.blake2b(view[:SLICE_BYTES], digest_size=DIGEST_BYTES)
    # A request may hold megabytes of images.
    for start in in_slices(range(SLICE_BYTES, len(text), SLICE_BYTES), 1):
        digest.update(view[start : start + SLICE_BYTES])
    return f"{name}:{digest.hexdigest()}"


def raw_digest(authorization: str, path: str, body: bytes) -> bytes:
    """Return a short name of a request as it came, byte for byte.

    No header holds a line feed, and the body begins where the head's length says: a path that was
    decoded may hold anything. So no two requests are one text.
    """
    head = f"{authorization}\n{path}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(b"%d\n%b%b" % (len(head), head, body), digest_size=DIGEST_BYTES).digest()
