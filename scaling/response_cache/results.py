"""The results of a request at the response cache, as metrics and commands name them."""

from enum import StrEnum


class CacheResult(StrEnum):
    """One result; a request has one of the lookups, and a call one of the writes."""

    NEAR = "near"
    STORE = "store"
    # The answer of an identical request that was under way.
    COLLAPSED = "collapsed"
    # A stale answer, while a request revalidates it.
    STALE = "stale"
    # A stale answer in place of a failure.
    STALE_ERROR = "stale_error"
    MISS = "miss"
    BYPASS = "bypass"
    ERROR = "error"
    STORED = "stored"
    TOO_LARGE = "too_large"

    @property
    def is_hit(self) -> bool:
        """Whether the answer came from the cache."""
        return self in HITS


HITS = frozenset(
    {
        CacheResult.NEAR,
        CacheResult.STORE,
        CacheResult.COLLAPSED,
        CacheResult.STALE,
        CacheResult.STALE_ERROR,
    }
)
WRITES = frozenset({CacheResult.STORED, CacheResult.TOO_LARGE})
# Of a request, in the order in which commands show them.
LOOKUPS = tuple(result for result in CacheResult if result not in WRITES)
