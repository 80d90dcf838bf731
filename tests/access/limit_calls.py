"""Calls that the limits refuse, and their keys in Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from access.errors import LimitExceeded
from access.limits import admit


def refused(principal, **options) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refusal:
        admit(principal, is_model_call=options.get("is_model_call", True))
    return refusal.value


def seconds_refused(principal) -> float:
    seconds = refused(principal).retry_after_seconds
    assert seconds is not None
    return seconds


def names(principal) -> list[str]:
    return [
        f"headrace:limits:{{{principal.key_id.hex}}}:{kind}"
        for kind in ("rate", "tokens", "leases")
    ]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def try_at_once(principal, *, threads: int, tries: int) -> int:
    passed = []

    def work():
        for _ in range(tries):
            try:
                admit(principal, is_model_call=True)
            except LimitExceeded:
                continue
            passed.append(1)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result(30)
    return len(passed)
