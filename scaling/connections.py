"""Release database connections early."""

from django.db import connections

from scaling.replicas.backend.pools import held_here


def release_connections() -> None:
    """Return every connection of this thread or greenlet to its pool.

    Call it before waiting for anything slow: a model answers for seconds, and a pool of sixteen
    connections would then serve sixteen chats. A connection inside a transaction stays; the next
    query takes a new one by itself.
    """
    for connection in held_here():
        if not connection.in_atomic_block:
            connection.close()


def drop_connections() -> None:
    """Release the connections, and drop Django's objects for them, of some 4 kB.

    Call it where this greenlet is not likely to query again but goes on for minutes; a query makes
    them again.
    """
    release_connections()
    for connection in connections.all(initialized_only=True):
        if connection.connection is None and not connection.in_atomic_block:
            del connections[connection.alias]
