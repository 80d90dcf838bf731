"""Django's PostgreSQL backend, with what the routing of reads must know of connections."""
