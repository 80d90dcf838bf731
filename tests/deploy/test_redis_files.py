"""Limits and queues share no Redis with answers, in the files for Compose and Swarm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack_plugin import BASE_DIR


def settings_of(name: str) -> dict[str, str]:
    """Return the options of one of Redis's files."""
    lines = (BASE_DIR / "deploy/redis" / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def services() -> Any:
    """The services of docker-compose.yml."""
    return yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def test_the_redis_of_limits_evicts_nothing_and_that_of_answers_does() -> None:
    limits, answers = settings_of("redis.conf"), settings_of("cache.conf")
    assert (limits["maxmemory-policy"], limits["appendonly"]) == ("noeviction", "yes")
    # Generations of what was cleared have no expiry, and must stay.
    assert (answers["maxmemory-policy"], answers["appendonly"]) == ("volatile-lru", "no")


def test_each_redis_has_its_file_and_its_password(services: Any, tmp_path: Path) -> None:
    files = {name: services[name]["configs"][0]["source"] for name in ("redis", "redis-cache")}
    assert files == {"redis": "redis_conf", "redis-cache": "redis_cache_conf"}
    script = BASE_DIR / "deploy/make_secrets.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    names = ("cache", "redis", "broker")
    urls = {name: (tmp_path / "app" / f"{name}_url").read_text() for name in names}
    passwords = {
        name: (tmp_path / name / "password").read_text() for name in ("redis", "redis-cache")
    }
    assert urls == {
        "cache": f"redis://:{passwords['redis-cache']}@redis-cache:6379/0",
        "redis": f"redis://:{passwords['redis']}@redis:6379/0",
        "broker": f"redis://:{passwords['redis']}@redis:6379/1",
    }
    assert passwords["redis"] != passwords["redis-cache"]


def test_nodes_and_workers_have_all_three(services: Any) -> None:
    swarm = yaml.safe_load((BASE_DIR / "deploy/swarm.yml").read_text(encoding="utf-8"))
    for name in ("web", "worker", "migrate"):
        for url in ("cache_url", "redis_url", "broker_url"):
            given = services[name]["environment"][f"{url.upper()}_FILE"]
            assert given == f"/run/secrets/{url}"
            assert url in swarm["services"][name]["secrets"]
            assert url in swarm["secrets"]
