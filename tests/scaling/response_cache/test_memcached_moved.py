"""A Memcached that is frozen while another one takes its name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scaling.response_cache.store import StoreUnavailable, get_store
from tests.scaling.response_cache.conftest import use
from tests.scaling.response_cache.servers import OwnMemcached
from tests.support.forwarder import Forwarder


def test_the_idle_connections_go_with_the_one_that_failed(settings: Any) -> None:
    settings.REDIS_RETRY_SECONDS = 0
    settings.REDIS_TIMEOUT_SECONDS = 0.5
    old, new = OwnMemcached(), OwnMemcached()
    try:
        old.start()
        new.start()
        with Forwarder(old.port) as name:
            use(settings, f"memcached://127.0.0.1:{name.port}")
            store = get_store()
            with ThreadPoolExecutor(16) as threads:
                list(threads.map(lambda number: store.set(f"k{number}", b"1", 60), range(64)))
            assert name.accepted > 1, "there is no idle connection to drop"
            old.freeze()
            name.target = new.port
            with pytest.raises(StoreUnavailable):
                store.get_many(["k1"])
            store.set("k1", b"2", 60)
            assert store.get_many(["k1"]) == [b"2"]
    finally:
        old.kill()
        new.kill()
