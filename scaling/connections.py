"""Release database connections early."""

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
