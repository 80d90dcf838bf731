"""The results of requests at the response cache."""

from __future__ import annotations

from scaling.response_cache.results import HITS, LOOKUPS, WRITES, CacheResult


def test_every_result_is_a_lookup_or_a_write() -> None:
    assert {*LOOKUPS, *WRITES} == set(CacheResult)
    assert not WRITES & set(LOOKUPS)


def test_hits_are_lookups() -> None:
    assert set(LOOKUPS) > HITS
    assert {result for result in CacheResult if result.is_hit} == HITS
