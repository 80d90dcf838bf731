"""Jobs start while the broker refuses, hangs or is gone: workers find them in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.brokers import moto_on, rabbitmq, refusing_sqs, sqs_settings, stack_on
from tests.faults.harness import Faults
from tests.stack_plugin import free_public_port
from tests.support.waiting import slack

COUNT = 40
SMALL = ("--nodes=1", "--workers=1", "--replicas=0", "--no-llm")
# Two are promised; the rest is for a busy machine.
START_SECONDS = 4.0
ACCEPT_SECONDS = 1.0

pytestmark = pytest.mark.timeout(240)


def check_service(faults: Faults, mark: str) -> list[str]:
    """Check that jobs are accepted, started and ended as if the broker were well; return them."""
    ids, seconds = [], []
    for number in range(4):
        began = time.monotonic()
        response = faults.post(f"{mark} {number}", chain="quick")
        assert response.status_code == 202, response.text
        seconds.append(time.monotonic() - began)
        ids.append(response.json()["id"])
        faults.wait_for_all(seconds=20)
    # Had they waited for the broker, each would have for its timeout.
    assert min(seconds) < slack(ACCEPT_SECONDS)
    waits = faults.query(
        "SELECT extract(epoch FROM max(a.started_at - j.created_at))::float8 FROM jobs_job j"
        " JOIN jobs_attempt a ON a.job_id = j.id WHERE j.id = ANY(%s::uuid[])",
        [job_id.removeprefix("job_") for job_id in ids],
    )
    assert waits[0][0] < slack(START_SECONDS)
    ids += faults.post_many(COUNT, mark=f"{mark} many", chain="quick")
    faults.wait_for_all(seconds=20)
    body = {"model": "quick", "input": f"{mark} waited for"}
    response = faults.http.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    faults.check(ids)
    return ids


@contextmanager
def full(faults: Faults) -> Iterator[None]:
    """Leave Redis no memory, and forbid eviction."""
    redis = faults.redis("BROKER_URL")
    names = ("maxmemory-policy", "maxmemory")
    before = {name: str(redis.config_get(name)[name]) for name in names}
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1mb")
    try:
        yield
    finally:
        for name in reversed(names):
            redis.config_set(name, before[name])


@contextmanager
def frozen(faults: Faults) -> Iterator[None]:
    """Freeze Redis."""
    (pid,) = faults.pids("redis")
    with faults.frozen(pid):
        yield


@contextmanager
def read_only(faults: Faults) -> Iterator[None]:
    """Make Redis a replica of a server that is down."""
    redis = faults.redis("BROKER_URL")
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        redis.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("illness", [full, frozen, read_only])
def test_jobs_run_while_redis_is_faulty(
    faults: Faults, illness: Callable[[Faults], AbstractContextManager[None]]
) -> None:
    with illness(faults):
        ids = check_service(faults, illness.__name__)
    ids += check_service(faults, f"after {illness.__name__}")
    faults.check(ids)


def test_jobs_run_while_rabbitmq_is_faulty(tmp_path: Path) -> None:
    with (
        rabbitmq(tmp_path) as server,
        stack_on(server.settings, tmp_path / "stack", arguments=SMALL) as faults,
    ):
        # Its publishers are blocked, without an error.
        server.control("set_vm_memory_high_watermark", "0")
        ids = check_service(faults, "alarm")
        server.control("set_vm_memory_high_watermark", "0.6")
        server.control("stop_app")
        ids += check_service(faults, "stopped")
        server.control("start_app")
        ids += check_service(faults, "back")
        faults.check(ids)


def test_jobs_run_while_sqs_is_faulty(tmp_path: Path) -> None:
    port = free_public_port()
    settings = sqs_settings(port)
    # Workers start, and run jobs, before there is an SQS.
    with stack_on(settings, tmp_path / "stack", arguments=SMALL) as faults:
        ids = check_service(faults, "never seen")
        with moto_on(port) as pid:
            ids += check_service(faults, "well")
            with faults.frozen(pid):
                ids += check_service(faults, "frozen")
        with refusing_sqs(port):
            ids += check_service(faults, "refusing")
        faults.check(ids)
