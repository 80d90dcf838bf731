"""The client of every Redis: which replies and failures mean that its connections lead elsewhere.

Servers move behind one name: a primary is demoted and another takes its address. Open connections
stay with the old server, so they are dropped, and the next call resolves the name again.

| reply or failure | what it means | connections | the caller sees |
| --- | --- | --- | --- |
| READONLY, MASTERDOWN, NOREPLICAS | a server that takes no writes, mostly a demoted primary | dropped | ReadOnlyServer |
| LOADING, NOAUTH, WRONGPASS, too many clients | not for us now | dropped | redis-py's ConnectionError |
| no answer, a closed connection, no server | frozen, killed, gone | dropped | redis-py's TimeoutError, ConnectionError |
| CLUSTERDOWN | a cluster without a primary for the key | left; its client looks for another | ClusterDownError |
| OOM, MISCONF (a full disk), NOPERM, BUSY, others | the right server refuses one command, and may answer others | left | ResponseError |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionPool, Redis, exceptions
from redis.client import Pipeline

READ_ONLY_CODES = ("READONLY", "MASTERDOWN", "NOREPLICAS")
# What the connections of the pool say nothing about: it has too few of them.
_OWN_FAULT = exceptions.MaxConnectionsError


class ReadOnlyServer(exceptions.ConnectionError):
    """The server takes no writes, and another one may have its name by now."""


class _Connections:
    """The common part of clients and pipelines."""

    connection_pool: ConnectionPool

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one reply; raises ReadOnlyServer, on which redis-py closes the connection."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            if is_read_only(error):
                raise ReadOnlyServer(str(error)) from error
            raise

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """Close the idle connections too when one fails: each would cost a timeout of its own."""
        try:
            yield
        except _OWN_FAULT:
            raise
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self.connection_pool.disconnect(inuse_connections=False)
            if isinstance(error, ReadOnlyServer):
                # Those under way may read, never hear of it, and be idle for long afterwards.
                self.connection_pool.update_active_connections_for_reconnect()
            raise


class HeadracePipeline(_Connections, Pipeline):
    """A pipeline of HeadraceRedis."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands; raises redis-py's exceptions."""
        with self._dropping():
            return super().execute(raise_on_error)


class HeadraceRedis(_Connections, Redis):
    """A client that drops its connections when their server has moved or is lost."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; raises redis-py's exceptions."""
        with self._dropping():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> HeadracePipeline:
        """Return a pipeline."""
        return HeadracePipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


def is_read_only(error: exceptions.ResponseError) -> bool:
    """Return whether a reply says that its server takes no writes."""
    text = str(error)
    # Redis before 7 has the code of a command inside a script in the middle of the reply.
    return error.status_code in READ_ONLY_CODES or any(
        text.startswith(f"{code} ") or f" -{code} " in text for code in READ_ONLY_CODES
    )
