"""Select the tests that need no server, and run them without the embedded stack: `make unit`.

Loaded by `-p tests.unit_plugin` in place of `tests.stack_plugin`. A test with a fixture of the
stack or of the database is left out, and so are the tests below, which start servers or processes
of their own, wait for seconds, or import clients for tests of which all need the stack. Redis,
PostgreSQL and HAProxy need not run. What is left out by its module's name is not imported at all.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["tests.support.collection"]
SERVER_FIXTURES = {"stack", "django_db_setup", "make_stack", "make_proxy", "own_redis", "provider"}
# Folders, modules and tests.
WITH_SERVERS = (
    "tests/access/test_deferred_limiter.py",
    "tests/access/test_hit_outages.py",
    "tests/access/test_hit_processes.py",
    "tests/access/test_leases.py",
    "tests/access/test_limits.py",
    "tests/access/test_limits_without_redis.py",
    "tests/access/test_logins.py",
    "tests/access/test_token_reservations.py",
    "tests/chat/caching/test_edge.py",
    "tests/chat/caching/test_page.py",
    "tests/chat/caching/test_page_buttons.py",
    "tests/chat/caching/test_read_cache.py",
    "tests/chat/chains/test_registry.py",
    "tests/chat/completions/",
    "tests/chat/conversations/test_idempotent_messages.py",
    "tests/chat/langserve/test_langserve.py",
    "tests/chat/providers/openai_compatible/",
    "tests/chat/providers/test_response_limits.py",
    "tests/compose/",
    "tests/config/api/test_schema.py",
    "tests/config/test_background.py::test_a_copy_of_a_greenlet_ends_in_a_forked_child",
    "tests/config/test_command_imports.py",
    "tests/config/test_env.py::test_no_command_starts_with_a_renamed_setting",
    "tests/deploy/test_nginx.py",
    "tests/deploy/test_nginx_refusals.py",
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
    "tests/loadtest/test_provider_mock.py",
    "tests/loadtest/test_tools.py",
    "tests/node/test_loop_guard.py",
    "tests/node/test_paced_input.py",
    "tests/node/test_resolver.py",
    "tests/scaling/replicas/test_detaching.py",
    "tests/scaling/replicas/test_primary_gone.py",
    "tests/scaling/replicas/test_sampling.py",
    "tests/scaling/response_cache/test_generations.py",
    "tests/scaling/response_cache/test_memcached_moved.py",
    "tests/scaling/response_cache/test_memory_store.py",
    "tests/scaling/response_cache/test_single_flight.py",
    "tests/scaling/response_cache/test_store_outages.py",
    "tests/scaling/response_cache/test_stores.py",
    "tests/scaling/response_cache/test_topologies.py",
    "tests/scaling/test_fair_semaphore.py::test_greenlets_that_never_pause",
    "tests/scaling/test_redis_client.py",
    "tests/scaling/test_redis_moved.py",
    "tests/scaling/test_scrape.py",
    "tests/scaling/test_script_batch.py",
)
BASE_DIR = Path(__file__).resolve().parent.parent
PATHS_LEFT_OUT = {BASE_DIR / name for name in WITH_SERVERS}
STATE_DIR = tempfile.mkdtemp(prefix="headrace-unit-")
# Before Django reads its settings.
os.environ["STATE_DIR"] = STATE_DIR


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out modules and folders without an import."""
    return True if collection_path in PATHS_LEFT_OUT else None


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
