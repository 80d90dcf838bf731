"""PostgreSQL servers of the embedded stack: one primary and its streaming replicas.

A server is named for good (`postgres1`, `postgres2`, ...); `topology` records which of them is the
primary. The data directories are created on first use and stay. `postgresql.conf` is ours and
rewritten at each start and change of role; `ALTER SYSTEM` still wins over it.
"""
