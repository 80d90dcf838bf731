"""Select the tests that need no server, and run them without the embedded stack: `make unit`.

Loaded by `-p tests.unit_plugin` in place of `tests.stack_plugin`. A test with a fixture of the
stack or of the database is left out, and so are the modules below, which start servers or processes
of their own, or wait for seconds. Redis, PostgreSQL and HAProxy need not run.
"""

import os
import shutil
import tempfile

import pytest

SERVER_FIXTURES = {"stack", "django_db_setup", "make_stack", "make_proxy", "provider"}
# Folders and modules.
WITH_SERVERS = (
    "tests/access/test_deferred_limiter.py",
    "tests/access/test_hit_outages.py",
    "tests/access/test_hit_processes.py",
    "tests/access/test_leases.py",
    "tests/access/test_limits.py",
    "tests/access/test_logins.py",
    "tests/access/test_token_reservations.py",
    "tests/chat/caching/test_edge.py",
    "tests/chat/caching/test_read_cache.py",
    "tests/chat/chains/test_registry.py",
    "tests/chat/providers/openai_compatible/",
    "tests/chat/providers/test_response_limits.py",
    "tests/compose/",
    "tests/docs/test_guides.py",
    "tests/faults/",
    "tests/fleet/autoscale/test_loop.py",
    "tests/fleet/autoscale/test_sources.py",
    "tests/fleet/cluster/",
    "tests/haproxy/",
    "tests/hostile/",
    "tests/jobs/documents/",
    "tests/jobs/notifications/",
    "tests/jobs/queue/test_messages.py",
    "tests/jobs/test_stalls.py",
    "tests/loadtest/test_tools.py",
    "tests/node/test_loop_guard.py",
    "tests/node/test_resolver.py",
    "tests/scaling/replicas/test_detaching.py",
    "tests/scaling/replicas/test_sampling.py",
    "tests/scaling/response_cache/test_generations.py",
    "tests/scaling/response_cache/test_memory_store.py",
    "tests/scaling/response_cache/test_single_flight.py",
    "tests/scaling/response_cache/test_stores.py",
    "tests/scaling/response_cache/test_topologies.py",
    "tests/scaling/test_redis_client.py",
    "tests/scaling/test_redis_moved.py",
    "tests/scaling/test_scrape.py",
    "tests/scaling/test_script_batch.py",
)
STATE_DIR = tempfile.mkdtemp(prefix="headrace-unit-")
# Before Django reads its settings.
os.environ["STATE_DIR"] = STATE_DIR


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need a server."""
    left_out = [item for item in items if _needs_a_server(item)]
    items[:] = [item for item in items if not _needs_a_server(item)]
    config.hook.pytest_deselected(items=left_out)


def pytest_unconfigure() -> None:
    """Remove the directory that the settings name."""
    shutil.rmtree(STATE_DIR, ignore_errors=True)


def _needs_a_server(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return (
        bool(fixtures & SERVER_FIXTURES)
        or item.get_closest_marker("django_db") is not None
        or "db" in fixtures
        or item.nodeid.startswith(WITH_SERVERS)
    )
