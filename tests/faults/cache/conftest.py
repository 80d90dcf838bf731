"""The stack of the cache's tests: two nodes with a small near cache."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import SAVE_CHAINS
from tests.faults.cache.harness import NEAR_BYTES, CacheFaults
from tests.provider import Provider
from tests.support.own_stack import OwnStack

ENV = {
    "CACHE_NEAR_SECONDS": "2",
    "CACHE_NEAR_MAX_BYTES": str(NEAR_BYTES),
    "CACHE_NEAR_MAX_ENTRIES": "1000",
    "CHAIN_CACHE_SECONDS": "0.2",
    "KEY_CACHE_SECONDS": "5",
    # Hundreds of requests at once share two processors with their clients; none is refused here.
    "OVERLOAD_DELAY_SECONDS": "0",
}
ARGUMENTS = ("--nodes=2", "--workers=1", "--replicas=0", "--no-llm")
CHAINS = {"cached": "echo", "cached-slow": "slow-start", "cached-second": "slow-echo"}


@pytest.fixture(scope="package")
def cache_stack(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[OwnStack]:
    """A stack whose nodes have a small near cache."""
    running = OwnStack(tmp_path_factory.mktemp("cache") / "stack", arguments=ARGUMENTS, env=ENV)
    running.start()
    try:
        rows = [
            {
                "slug": slug,
                "runnable": "assistant",
                "model": f"openai:{model}",
                "base_url": provider.base_url,
                "timeout_seconds": 20,
                "cache_mode": "always",
            }
            for slug, model in CHAINS.items()
        ]
        code = SAVE_CHAINS.format(rows=json.dumps(rows))
        made = running.manage("shell", "--no-imports", "-c", code)
        assert made.returncode == 0, made.stderr
        time.sleep(0.5)
        yield running
    finally:
        running.stop()


@pytest.fixture
def faults(cache_stack: OwnStack) -> Iterator[CacheFaults]:
    """The stack, every part ready before the test and after it."""
    harness = CacheFaults(cache_stack)
    harness.wait_nodes()
    yield harness
    harness.wait_nodes()


@pytest.fixture
def mark() -> str:
    return f"mark-{uuid.uuid4().hex}"
