"""Addresses of servers: how they are written, and that a running process obeys their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from config.database import database_from_url, named_urls
from scaling.replicas.addresses import Addresses, apply
from scaling.replicas.backend.pools import close_pool
from scaling.replicas.sampling import Sampler, connection_params
from scaling.replicas.topology import TOPOLOGY
from tests.stack_plugin import EmbeddedStack

NO_POOL = {"max_size": 0}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("postgresql://a/x", ["replica1"]),
        (
            "postgresql://a/x, postgres://b/x\npostgresql://c/x",
            ["replica1", "replica2", "replica3"],
        ),
        ("east=postgresql://a/x,west-2=postgresql://b/x", ["east", "west-2"]),
        # A comma inside one URL separates hosts.
        (
            "postgresql://a:1,b:2/x?target_session_attrs=any,postgresql://c/x",
            ["replica1", "replica2"],
        ),
    ],
)
def test_replicas_have_names(text: str, names: list[str]) -> None:
    assert list(named_urls(text)) == names


@pytest.mark.parametrize(
    "text",
    [
        "a=postgresql://a/x,a=postgresql://b/x",
        "default=postgresql://a/x",
        "replica2=postgresql://a/x,postgresql://b/x",
    ],
)
def test_a_name_is_taken_once(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="is taken"):
        named_urls(text)


@pytest.fixture
def servers(stack: EmbeddedStack) -> list[str]:
    """Return the stack's URLs: the primary's, then the replica's."""
    run = stack.state_dir / "run"
    primary = (run / "database.url").read_text().strip()
    return [primary, *named_urls((run / "replicas.urls").read_text()).values()]


def test_of_several_hosts_the_one_that_takes_writes_is_found(servers: list[str]) -> None:
    primary, replica = (urlsplit(url) for url in servers[:2])
    hosts = f"{replica.hostname}:{replica.port},{primary.hostname}:{primary.port}"
    both = primary._replace(
        netloc=f"{primary.username}:{primary.password}@{hosts}",
        query="target_session_attrs=read-write",
    ).geturl()
    entry = database_from_url("DATABASE_URL", both, pool=NO_POOL, options={})
    connections.settings["both"] = connections.configure_settings({"default": entry})["default"]
    try:
        with psycopg.connect(**connection_params("both")) as connection:
            assert connection.info.port == primary.port
        assert not Sampler("both").sample().is_in_recovery
    finally:
        del connections.settings["both"]


@pytest.fixture
def url_file(tmp_path: Path, settings: object, servers: list[str]) -> Iterator[Path]:
    """Make the settings read the servers from files, and restore everything."""
    path = tmp_path / "replicas"
    path.write_text("")
    before = dict(connections.settings)

    def read() -> dict[str, object]:
        return {
            "default": before["default"],
            **{
                name: database_from_url("REPLICAS", url, pool=NO_POOL, options={})
                for name, url in named_urls(path.read_text()).items()
            },
        }

    settings.DATABASE_FILES = [path]  # type: ignore[attr-defined]
    settings.READ_DATABASES = read  # type: ignore[attr-defined]
    yield path
    path.write_text("")
    for alias in [alias for alias in connections.settings if alias not in before]:
        connections[alias].close()
        del connections.settings[alias]
        close_pool(alias)
    connections.settings.update(before)
    TOPOLOGY.set_replicas([])


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.django_db(transaction=True)
def test_a_process_obeys_its_files(url_file: Path, servers: list[str]) -> None:
    addresses = Addresses()
    assert not addresses.tick()
    replace(url_file, f"east={servers[1]}")
    assert addresses.tick() == {"east"}
    assert list(TOPOLOGY.replicas) == ["east"]
    assert Sampler("east").sample().is_in_recovery
    assert not addresses.tick()
    # The same name at another address.
    replace(url_file, f"east={servers[0]}")
    assert addresses.tick() == {"east"}
    assert not Sampler("east").sample().is_in_recovery
    # A greenlet that has read from it holds its wrapper, whose pool must not be the old one's.
    kept = connections["east"]
    replace(url_file, "")
    assert not addresses.tick()
    replace(url_file, f"east={servers[1]}")
    assert addresses.tick() == {"east"}
    assert kept.settings_dict["PORT"] == str(urlsplit(servers[1]).port)
    # What cannot be read changes nothing.
    url_file.write_bytes(b"\xff")
    assert not addresses.tick()
    assert not addresses.tick()
    replace(url_file, "east=postgresql://a/x,east=postgresql://b/x")
    assert not addresses.tick()
    assert list(TOPOLOGY.replicas) == ["east"]
    replace(url_file, "")
    assert not addresses.tick()
    assert not TOPOLOGY.replicas
    assert "east" not in connections.settings


@pytest.mark.django_db(transaction=True)
def test_the_primary_may_move_under_connections_that_exist(url_file: Path) -> None:
    present = connections["default"].settings_dict
    moved = {**present, "PORT": "1"}
    kept = dict(present)
    try:
        assert apply({"default": moved}) == {"default"}
        # Each greenlet's wrapper holds this dict.
        assert present["PORT"] == "1"
    finally:
        apply({"default": kept})
