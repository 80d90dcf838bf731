"""Which servers there are, in which roles, and where that is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.cluster.errors import ClusterError
from fleet.cluster.postgres.topology import Topology, load

if TYPE_CHECKING:
    from pathlib import Path


def test_at_first_there_is_one_server_and_more_are_counted_on() -> None:
    assert Topology().resized(0).names == ["postgres1"]
    assert Topology().resized(2).names == ["postgres1", "postgres2", "postgres3"]


def test_a_promotion_exchanges_roles_and_no_names() -> None:
    promoted = Topology().resized(2).promoted("postgres3")

    assert promoted == Topology(primary="postgres3", replicas=("postgres1", "postgres2"))
    assert promoted.promoted("postgres3") == promoted


def test_the_primary_stays_when_there_are_fewer_servers_and_its_number_is_not_reused() -> None:
    roles = Topology(primary="postgres2", replicas=("postgres1", "postgres3"))

    assert roles.resized(1).names == ["postgres2", "postgres1"]
    assert roles.resized(1).resized(2) == roles
    assert roles.without("postgres1").next_name() == "postgres1"


def test_names_are_sorted_by_their_numbers() -> None:
    roles = Topology(primary="postgres1", replicas=("postgres2",)).with_replica("postgres10")
    assert roles.with_replica("postgres9").replicas == ("postgres2", "postgres9", "postgres10")


def test_there_are_no_more_than_eight_replicas() -> None:
    with pytest.raises(ClusterError, match="8 replicas"):
        Topology().resized(8).next_name()


def test_a_record_is_read_as_it_was_written_and_a_bad_one_named(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    assert load(path) is None
    roles = Topology().resized(2).promoted("postgres2")

    roles.save(path)

    assert load(path) == roles
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("[]")
    with pytest.raises(ClusterError, match=r"topology\.json"):
        load(path)
