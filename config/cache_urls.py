"""Turn the URLs of Redis and Memcached into Django's `CACHES` entries and lists of servers.

A URL may hold a password, so no error quotes it.
"""

from typing import Any
from urllib.parse import parse_qs, unquote

from django.core.exceptions import ImproperlyConfigured

REDIS_SCHEMES = ("redis", "rediss", "unix")
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
MEMCACHED_SCHEME = "memcached"
SENTINEL_PORT = 26379
REDIS_PORT = 6379
MEMCACHED_PORT = 11211

Address = tuple[str, int]


def is_memcached(url: str) -> bool:
    """Return whether a URL names Memcached servers."""
    return _scheme(url) == MEMCACHED_SCHEME


def redis_url(*, cache_url: str, redis_url: str) -> str:
    """Return the URL of the Redis that stores limits: `REDIS_URL`, or else `CACHE_URL`.

    Raises ImproperlyConfigured when neither names a Redis.
    """
    if not redis_url and is_memcached(cache_url):
        raise ImproperlyConfigured(
            "CACHE_URL names a Memcached, which cannot store limits: set REDIS_URL to a Redis too"
        )
    if is_memcached(redis_url):
        raise ImproperlyConfigured("REDIS_URL must name a Redis; Memcached cannot store limits")
    return redis_url or cache_url


def redis_cache(name: str, url: str, *, timeout_seconds: float) -> dict[str, Any]:
    """Return a `CACHES` entry of django-redis; `name` is the setting to blame.

    - `redis://`, `rediss://`, `unix://`: as redis-py reads them.
    - `redis+sentinel://user:password@host:port,host:port/MASTER/DB`: the master that the Sentinels
      name. `?sentinel_username=` and `?sentinel_password=` are for the Sentinels themselves.
    - `redis+cluster://user:password@host:port,host:port`: a cluster, found through any of these.
    - `rediss+sentinel://` and `rediss+cluster://`: the same with TLS.
    """
    options: dict[str, Any] = {
        "CLIENT_CLASS": "django_redis.client.DefaultClient",
        "REDIS_CLIENT_CLASS": "config.redis_connections.HeadraceRedis",
        "SOCKET_CONNECT_TIMEOUT": timeout_seconds,
        "SOCKET_TIMEOUT": timeout_seconds,
    }
    scheme = _scheme(url)
    location = url
    if scheme in SENTINEL_SCHEMES:
        location, more = _sentinel(name, url, timeout_seconds)
        options |= more
    elif scheme in CLUSTER_SCHEMES:
        location, more = _cluster(name, url)
        options |= more
    elif scheme not in REDIS_SCHEMES:
        known = ", ".join(
            f"{one}://" for one in (*REDIS_SCHEMES, *SENTINEL_SCHEMES, *CLUSTER_SCHEMES)
        )
        raise ImproperlyConfigured(f"{name} must start with one of {known}")
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def memcached_servers(name: str, url: str) -> list[Address]:
    """Return the servers of `memcached://host:port,host:port`; `name` is the setting to blame."""
    credentials, hosts, path, query = _parts(url)
    if credentials or path or query:
        raise ImproperlyConfigured(f"{name} must look like memcached://host:port,host:port")
    return _addresses(name, hosts, MEMCACHED_PORT)


def _sentinel(name: str, url: str, timeout_seconds: float) -> tuple[str, dict[str, Any]]:
    credentials, hosts, path, query = _parts(url)
    master, _, database = path.partition("/")
    given = {key: values[-1] for key, values in parse_qs(query).items()}
    if not master or not (database or "0").isdecimal():
        raise ImproperlyConfigured(f"{name} must end with the master's name and a number: /main/0")
    if unknown := given.keys() - {"sentinel_username", "sentinel_password"}:
        raise ImproperlyConfigured(f"{name} has no parameter {min(unknown)}")
    # django-redis would take the name from the URL's host, in lower case, and would share one pool
    # between all Sentinels whose master has the same name; so the host is the first Sentinel's.
    sentinels = _addresses(name, hosts, SENTINEL_PORT)
    pool: dict[str, Any] = {"service_name": unquote(master)}
    # redis-py's own default is to retry a Sentinel for seconds.
    sentinel: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": None,
    }
    if url.startswith("rediss"):
        pool["ssl"] = sentinel["ssl"] = True
    for part in ("username", "password"):
        if value := given.get(f"sentinel_{part}"):
            sentinel[part] = value
    return f"redis://{credentials}{_host(*sentinels[0])}/{database or '0'}", {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "CONNECTION_POOL_KWARGS": pool,
        "SENTINELS": sentinels,
        "SENTINEL_KWARGS": sentinel,
    }


def _cluster(name: str, url: str) -> tuple[str, dict[str, Any]]:
    credentials, hosts, path, query = _parts(url)
    if path not in ("", "0") or query:
        raise ImproperlyConfigured(f"{name} must end after the hosts: a cluster has one database")
    nodes = _addresses(name, hosts, REDIS_PORT)
    scheme = "rediss" if url.startswith("rediss") else "redis"
    return f"{scheme}://{credentials}{_host(*nodes[0])}/0", {
        "CONNECTION_FACTORY": "scaling.redis_cluster.ClusterConnectionFactory",
        "STARTUP_NODES": nodes,
    }


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _parts(url: str) -> tuple[str, str, str, str]:
    """Return credentials with their @, hosts, path and query."""
    rest, _, query = url.partition("://")[2].partition("?")
    before, at, after = rest.rpartition("@")
    hosts, _, path = after.partition("/")
    return before + at, hosts, path.strip("/"), query


def _addresses(name: str, hosts: str, default_port: int) -> list[Address]:
    return [_address(name, host, default_port) for host in hosts.split(",")]


def _address(name: str, text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or not (port.isdecimal() and 0 < int(port) < 65536):
        raise ImproperlyConfigured(f"{name} must name each server as host:port")
    return host, int(port)


def _host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
