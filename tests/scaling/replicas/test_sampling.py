"""The query that every process sends each server, a few times a second."""

from __future__ import annotations

import time

from django.db import connections

from scaling.replicas.sampling import WATCHER, Sampler
from tests.stack_plugin import EmbeddedStack

# psycopg prepares what comes more than five times.
TIMES = 8


def test_a_sample_has_the_state_of_its_server(stack: EmbeddedStack) -> None:
    [name] = stack.replica_urls
    samples = {}
    for alias in ("default", name):
        sampler = Sampler(alias)
        samples[alias] = sampler.sample()
        sampler.close()
    primary, replica = samples["default"], samples[name]
    assert not primary.is_in_recovery
    assert replica.is_in_recovery
    assert primary.position.timeline == replica.position.timeline >= 1
    assert replica.position.lsn > 0
    assert primary.connections > 0
    assert primary.system == replica.system > 0
    assert primary.taken_at < time.monotonic()


def test_nothing_is_prepared_that_a_pgbouncer_could_lose() -> None:
    assert "default" in connections.settings
    sampler = Sampler("default")
    for _ in range(TIMES):
        sampler.sample()
    connection = sampler.connection()
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert connection.execute("SHOW application_name").fetchone() == (WATCHER,)
    sampler.close()
