"""`manage.py replicas status`, and what it is made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.metrics import READS
from scaling.replicas.position import Position
from scaling.replicas.process_metrics import ProcessMetrics, collect, own
from scaling.replicas.report import address_of, make, state_of, table
from scaling.replicas.topology import Server, Topology
from tests.stack_plugin import CLEAN_ENVIRONMENT, MANAGE, EmbeddedStack
from tests.support.calls import client_with, run_manage
from tests.support.waiting import slack


def sample(lsn: int = 0x3000148, **more: Any) -> Sample:
    values = {"is_in_recovery": True, "started_at": "then", "connections": 7, **more}
    return Sample(taken_at=time.monotonic(), position=Position(1, lsn), **values)


def well(name: str) -> Server:
    server = Server(name)
    server.take(sample())
    server.fault, server.good_samples = "", GOOD_SAMPLES
    return server


def status(stack: EmbeddedStack, **env: str) -> tuple[int, dict[str, Any]]:
    done = run_manage(stack, "replicas", "status", "--json", env=env)
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


@pytest.fixture
def topology() -> Topology:
    made = Topology()
    made.primary.take(sample(0x3000200, is_in_recovery=False))
    made.replicas = {"near": well("near"), "far": well("far")}
    return made


def test_a_state_is_one_word_of_what_is_so() -> None:
    server = well("near")
    assert state_of(server) == "in rotation"
    server.good_samples = 1
    assert state_of(server) == "returning"
    server.is_detached = True
    assert state_of(server) == "detached"
    server.fault = "lagging"
    assert state_of(server) == "lagging"
    server.fault = "promoted"
    other = Server("default")
    other.take(sample(is_in_recovery=False, started_at="later"))
    assert state_of(server, other) == "promoted"
    other.take(sample(is_in_recovery=False))
    assert state_of(server, other) == "the primary"


def test_the_share_of_reads_and_the_pools_come_from_the_processes(topology: Topology) -> None:
    figures = ProcessMetrics(
        processes=2,
        reads=Counter({"default": 1, "near": 3, "removed": 9}),
        busy=Counter({"near": 5}),
        used_by=Counter({"default": 2, "near": 2}),
    )
    primary, near, far = make(topology, figures).servers
    assert (primary.reads_share, near.reads_share, far.reads_share) == (0.25, 0.75, 0.0)
    assert (near.pool_busy, near.pool_max) == (5, 16)
    assert (near.used_by, far.used_by) == (2, 0)
    assert near.lsn == "0/3000148"
    assert near.timeline == 1
    assert near.connections == 7


def test_without_processes_their_metrics_are_unknown(topology: Topology) -> None:
    found = make(topology, ProcessMetrics())
    assert all(server.reads_share is None for server in found.servers)
    assert all(server.pool_busy is None for server in found.servers)
    assert "near     replica  in rotation" in table(found)


def test_the_share_between_two_looks_is_of_the_reads_between_them() -> None:
    before = ProcessMetrics(processes=1, reads=Counter({"default": 90, "near": 10}))
    after = ProcessMetrics(processes=1, reads=Counter({"default": 90, "near": 15}))
    assert after.since(before).reads == {"default": 0, "near": 5}
    # Nothing was read in between, so the reads of before are shown.
    assert after.since(after).reads == after.reads


def test_a_process_that_was_restarted_in_between_counts_from_nothing() -> None:
    before = ProcessMetrics(processes=1, reads=Counter({"near": 100}))
    after = ProcessMetrics(processes=1, reads=Counter({"near": 3, "far": 2}))
    assert after.since(before).reads == {"near": 0, "far": 2}


def test_reads_that_had_no_choice_do_not_count() -> None:
    server = Server("somewhere")
    server.busy = 2
    before = own([server]).reads["somewhere"]
    for reason in ("replica", "behind", "latest", "transaction", "page"):
        READS.labels("somewhere", reason).inc()
    found = own([server])
    assert found.reads["somewhere"] == before + 2
    assert found.busy["somewhere"] == 2


def test_reads_of_a_client_are_seen_at_the_replica(stack: EmbeddedStack) -> None:
    [name] = stack.replica_urls
    kinds = ("node", "worker")
    readers = [part["address"] for part in stack.status()["parts"] if part["kind"] in kinds]
    before = collect(readers).reads[name]
    headers = {"Cache-Control": "no-cache", "x-headrace-position": "1-1"}
    deadline = time.monotonic() + slack(10)
    with client_with(stack, stack.demo_key) as client:
        # On a busy machine the replica may leave rotation for a moment.
        while collect(readers).reads[name] < before + 10:
            assert time.monotonic() < deadline
            assert client.get("/v1/conversations", headers=headers).status_code == 200


def test_an_address_tells_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"HOST": "a,b", "PORT": "5432", "PASSWORD": "secret", "USER": "someone"}
    monkeypatch.setattr("scaling.replicas.report.connections.settings", {"near": entry})
    assert address_of("near") == "a:5432,b:5432"
    assert address_of("gone") == "localhost:5432"


def test_a_process_that_does_not_answer_is_counted_as_silent(stack: EmbeddedStack) -> None:
    node = stack.part("node1")["address"]
    found = collect([node, "127.0.0.1:1"])
    assert (found.processes, found.silent) == (1, 1)
    assert found.used_by["default"] == 1
    assert collect([]) == ProcessMetrics()


def test_the_servers_of_the_stack_are_well(stack: EmbeddedStack) -> None:
    with client_with(stack, stack.demo_key) as client:
        assert client.get("/v1/conversations").status_code == 200
    code, found = status(stack)
    assert code == 0, found
    primary, replica = found["servers"]
    assert (primary["role"], primary["state"]) == ("primary", "primary")
    assert (replica["role"], replica["state"]) == ("replica", "in rotation")
    assert replica["name"] in stack.replica_urls
    assert primary["address"] in stack.database_url
    assert found["processes"] == 3
    assert primary["used_by"] == replica["used_by"] == 3
    assert primary["reads_share"] + replica["reads_share"] == pytest.approx(1, abs=0.001)
    assert replica["lag_seconds"] < 5
    assert "/" in replica["lsn"]
    assert primary["pool_max"] == 3 * 16
    assert found["notes"] == []


def test_other_installations_get_notes_of_unknown_metrics(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    replicas = ",".join(f"{name}={url}" for name, url in stack.replica_urls.items())
    code, found = status(
        stack,
        STATE_DIR=str(tmp_path),
        DATABASE_URL=stack.database_url,
        DATABASE_REPLICA_URLS=replicas,
        CACHE_URL="redis://127.0.0.1:1/0",
    )
    assert code == 0, found
    assert [server["state"] for server in found["servers"]] == ["primary", "in rotation"]
    assert found["servers"][1]["reads_share"] is None
    assert found["notes"][0].startswith("Pools and shares of reads are unknown")
    assert found["notes"][1].startswith("Redis does not answer which replicas are detached")


def test_a_server_that_is_unavailable_and_one_that_is_the_primary_are_named(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    url = stack.database_url
    gone = "postgresql://headrace@127.0.0.1:1/headrace"
    code, found = status(
        stack,
        STATE_DIR=str(tmp_path),
        DATABASE_URL=url,
        DATABASE_REPLICA_URLS=f"gone={gone},same={url}",
    )
    assert code == 1
    states = {server["name"]: server["state"] for server in found["servers"]}
    assert states == {"default": "primary", "gone": "unreachable", "same": "the primary"}


@pytest.fixture
def _paused(stack: EmbeddedStack) -> Iterator[None]:
    """Replay stands still on the replica."""
    [url] = stack.replica_urls.values()
    with psycopg.connect(url, autocommit=True) as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        with psycopg.connect(stack.database_url, autocommit=True) as primary:
            primary.execute("SELECT pg_logical_emit_message(false, 'test', 'one record more')")
            primary.execute("SELECT pg_switch_wal()")
        yield
        replica.execute("SELECT pg_wal_replay_resume()")


@pytest.mark.usefixtures("_paused")
def test_a_replica_that_stands_still_is_watched_until_it_is_too_late(stack: EmbeddedStack) -> None:
    code, found = status(stack, REPLICA_MAX_LAG_SECONDS="2")
    assert code == 1
    replica = found["servers"][1]
    assert replica["state"] == "lagging"
    assert replica["lag_seconds"] > 2
    assert replica["lag_bytes"] > 0


def test_watching_goes_on_until_it_is_interrupted(stack: EmbeddedStack) -> None:
    environment = {**CLEAN_ENVIRONMENT, "STATE_DIR": str(stack.state_dir)}
    with subprocess.Popen(
        [*MANAGE, "replicas", "status", "--watch", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    assert all(line["servers"][0]["state"] == "primary" for line in lines)
