"""URLs of Redis and Memcached."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.cache_urls import memcached_servers, redis_cache, redis_url


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://:p,w@h:1/2", "unix:///tmp/redis.sock"])
def test_a_plain_redis_is_left_to_redis_py(url):
    cache = redis_cache("X", url, timeout_seconds=0.05)
    assert cache["LOCATION"] == url
    assert cache["OPTIONS"]["SOCKET_TIMEOUT"] == cache["OPTIONS"]["SOCKET_CONNECT_TIMEOUT"] == 0.05
    assert "CONNECTION_FACTORY" not in cache["OPTIONS"]


def test_sentinels_and_their_master():
    url = "redis+sentinel://me:p%40w@a:1,b,[::1]:3/My-Master/7?sentinel_password=s%26p"
    cache = redis_cache("X", url, timeout_seconds=0.05)
    assert cache["LOCATION"] == "redis://me:p%40w@a:1/7"
    options = cache["OPTIONS"]
    assert options["SENTINELS"] == [("a", 1), ("b", 26379), ("::1", 3)]
    assert options["CONNECTION_POOL_KWARGS"] == {"service_name": "My-Master"}
    assert options["SENTINEL_KWARGS"] == {
        "socket_timeout": 0.05,
        "socket_connect_timeout": 0.05,
        "retry": None,
        "password": "s&p",
    }


def test_sentinels_by_tls():
    options = redis_cache("X", "rediss+sentinel://a/main", timeout_seconds=1)["OPTIONS"]
    assert options["CONNECTION_POOL_KWARGS"]["ssl"] is True
    assert options["SENTINEL_KWARGS"]["ssl"] is True


def test_a_cluster_and_its_nodes():
    cache = redis_cache("X", "rediss+cluster://:pw@a:1,b", timeout_seconds=1)
    assert cache["LOCATION"] == "rediss://:pw@a:1/0"
    assert cache["OPTIONS"]["STARTUP_NODES"] == [("a", 1), ("b", 6379)]


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1",
        "h:6379",
        "memcached://h",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/main/x",
        "redis+sentinel://a:x/main",
        "redis+sentinel://a:1/main?password=secret",
        "redis+cluster://a:1/2",
        "redis+cluster://a:1,:2",
        "redis+cluster://a:70000",
        "redis+cluster://",
    ],
)
def test_other_urls_are_refused_by_the_setting_s_name_and_not_quoted(url):
    with pytest.raises(ImproperlyConfigured, match=r"^X ") as refusal:
        redis_cache("X", url, timeout_seconds=1)
    assert "secret" not in str(refusal.value)


def test_memcached_servers():
    assert memcached_servers("X", "memcached://a:1,b") == [("a", 1), ("b", 11211)]


@pytest.mark.parametrize(
    "url", ["memcached://", "memcached://u:p@h", "memcached://h/0", "memcached://h:0"]
)
def test_memcached_has_neither_users_nor_databases(url):
    with pytest.raises(ImproperlyConfigured, match=r"^X "):
        memcached_servers("X", url)


def test_limits_are_where_the_cache_is_unless_redis_url_says_otherwise():
    assert redis_url(cache_url="redis://a", redis_url="") == "redis://a"
    assert redis_url(cache_url="redis://a", redis_url="redis://b") == "redis://b"
    assert redis_url(cache_url="memcached://a", redis_url="redis://b") == "redis://b"


def test_memcached_alone_is_not_enough():
    with pytest.raises(ImproperlyConfigured, match="set REDIS_URL to a Redis too"):
        redis_url(cache_url="memcached://a", redis_url="")
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL must name a Redis"):
        redis_url(cache_url="redis://a", redis_url="memcached://a")
