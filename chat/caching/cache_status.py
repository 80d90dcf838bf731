"""The `Cache-Status` header (RFC 9211) and `Age`."""

from __future__ import annotations

from collections.abc import Sequence

from scaling.database_clock import CLOCK
from scaling.response_cache.entry import Entry

NAME = "Headrace"


def hit_headers(entry: Entry, detail: str) -> dict[str, str]:
    """Return the headers of a hit; `detail` names the tier, or why it is stale."""
    now = CLOCK.now()
    return {
        "Cache-Status": f"{NAME}; hit; ttl={int(entry.freshness_left(now))}; detail={detail}",
        "Age": str(max(0, int(entry.age_seconds(now)))),
    }


def listing_headers(read_at: float, *, ttl_seconds: float, requested_at: float) -> dict[str, str]:
    """Return the headers of a listing that this process read at a Unix time and caches."""
    if read_at >= requested_at:
        return miss_headers(is_stored=True)
    age = max(0.0, CLOCK.now() - read_at)
    return {
        "Cache-Status": f"{NAME}; hit; ttl={int(max(0.0, ttl_seconds - age))}; detail=near",
        "Age": str(int(age)),
    }


def collapsed_headers(entry: Entry) -> dict[str, str]:
    """Return the headers of the answer of another request's call."""
    return {"Cache-Status": f"{NAME}; fwd=miss; collapsed", "Age": _age(entry)}


def miss_headers(*, is_stored: bool, reason: str = "miss") -> dict[str, str]:
    """Return the headers of an answer that was computed for this request."""
    stored = "; stored" if is_stored else ""
    return {"Cache-Status": f"{NAME}; fwd={reason}{stored}", "Age": "0"}


def batch_headers(each: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the headers of an answer to several inputs: a hit only if each was a hit."""
    hits = sum("; hit" in headers["Cache-Status"] for headers in each)
    kind = "hit" if hits == len(each) else "fwd=miss"
    return {"Cache-Status": f'{NAME}; {kind}; detail="{hits} of {len(each)} were there"'}


def bypass_headers(why: str) -> dict[str, str]:
    """Return the headers of an answer that bypassed the cache."""
    return {"Cache-Status": f"{NAME}; fwd=bypass; detail={why}", "Age": "0"}


def _age(entry: Entry) -> str:
    return str(max(0, int(entry.age_seconds(CLOCK.now()))))
