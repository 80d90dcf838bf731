"""PostgreSQL servers of the embedded stack: one primary and its streaming replicas.

A server is named for good (`postgres1`, `postgres2`, ...); `topology` records which of them is the
primary. The data directories are made on first use and kept. `postgresql.conf` is ours and written
anew at each start and change of role; `ALTER SYSTEM` still wins over it.
"""
