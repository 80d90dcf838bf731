"""An entry holds its body and no more, as the near cache counts it."""

from __future__ import annotations

import tracemalloc

import orjson

from chat.caching.cache_key import Cacheable
from chat.caching.unary import FreshAnswer, make_entry
from chat.running.run import Usage
from scaling.response_cache.policy import CachePolicy

COUNT = 50


def test_an_entry_holds_no_more_than_its_body() -> None:
    cacheable = Cacheable.__new__(Cacheable)
    object.__setattr__(cacheable, "policy", CachePolicy())
    object.__setattr__(cacheable, "chain", "c")
    tracemalloc.start()
    try:
        entries = [
            make_entry(
                FreshAnswer(
                    body=orjson.dumps({"text": "x" * 3_000}), volatile_texts=(), usage=Usage()
                ),
                cacheable,
                "application/json",
            )
            for _ in range(COUNT)
        ]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * sum(len(entry.body) for entry in entries)
