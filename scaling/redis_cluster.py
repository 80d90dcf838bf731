"""A connection factory for Redis Cluster, which django-redis lacks."""

from __future__ import annotations

from typing import Any

from django_redis.pool import ConnectionFactory
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.retry import Retry


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]  # it has no types
    """Makes one `RedisCluster` for each URL and process; it finds the nodes by itself.

    Options: STARTUP_NODES, a list of (host, port), and django-redis's timeouts.
    """

    _clusters: dict[str, RedisCluster] = {}

    def connect(self, url: str) -> RedisCluster:
        """Return the client; the first call reads the slots from the nodes.

        Raises redis-py's exceptions when no node answers.
        """
        cluster = self._clusters.get(url)
        if cluster is None:
            cluster = self._clusters.setdefault(url, self._make(url))
        return cluster

    def disconnect(self, connection: RedisCluster) -> None:
        """Close the connections to all nodes."""
        connection.close()

    def _make(self, url: str) -> RedisCluster:
        options = dict[str, Any](parse_url(url))  # type: ignore[no-untyped-call]
        use_tls = options.pop("connection_class", None) is not None
        for name in ("host", "port", "db"):
            options.pop(name, None)
        nodes = [
            ClusterNode(host, port)  # type: ignore[no-untyped-call]
            for host, port in self.options["STARTUP_NODES"]
        ]
        return RedisCluster(
            startup_nodes=nodes,
            # One attempt: the caller would rather do without than wait.
            retry=Retry(NoBackoff(), 0),
            # The other nodes' keys are of use while one is unavailable.
            require_full_coverage=False,
            ssl=use_tls,
            socket_timeout=self.options["SOCKET_TIMEOUT"],
            socket_connect_timeout=self.options["SOCKET_CONNECT_TIMEOUT"],
            **options,
        )
