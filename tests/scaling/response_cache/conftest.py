"""A store on each kind of server, with the server to hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import scaling.redis_client
from config.cache_urls import is_memcached, redis_cache
from scaling.response_cache import store as store_module
from scaling.response_cache.store import Store, get_store
from tests.scaling.response_cache.servers import OwnCluster, OwnMemcached, PlainRedis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _forget_the_store() -> Iterator[None]:
    store_module.reset()
    yield
    store_module.reset()
    scaling.redis_client.reset()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    """Return the servers that tests of this module started, by their kinds."""
    started: dict[str, Any] = {}
    yield started
    for server in started.values():
        server.thaw()
        server.kill()


@pytest.fixture(params=["redis", "cluster", "memcached"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    servers: dict[str, Any],
    settings: Any,
) -> Any:
    """Return an empty server that the test may hurt, of every kind in turn."""
    found = servers.get(request.param)
    if found is None:
        kinds: dict[str, Callable[[], Any]] = {
            "redis": lambda: PlainRedis(tmp_path_factory.mktemp("redis")),
            "cluster": lambda: OwnCluster(tmp_path_factory.mktemp("cluster")),
            "memcached": OwnMemcached,
        }
        found = kinds[request.param]()
        found.start()
        servers[request.param] = found
    found.thaw()
    if found.process.poll() is not None:
        found.start()
    found.flush()
    use(settings, found.url)
    return found


@pytest.fixture
def store(server: Any) -> Store:
    """Return the store on the server."""
    return get_store()


def use(settings: Any, url: str) -> None:
    """Set CACHE_URL to this server."""
    settings.CACHE_URL = url
    if not is_memcached(url):
        cache = redis_cache("CACHE_URL", url, timeout_seconds=settings.REDIS_TIMEOUT_SECONDS)
        settings.CACHES = {**settings.CACHES, "responses": cache}
    scaling.redis_client.reset()
    store_module.reset()
