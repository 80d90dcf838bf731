"""A stack of its own for the fault suite: two nodes, two workers, and leases that end soon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.authority import Authority
from tests.faults.chains import NAMES
from tests.faults.harness import Faults
from tests.provider import Provider
from tests.support.own_stack import OwnStack

# Soon over, and yet long enough that a worker that waits for a processor is not taken for lost
# while a job of its own blocks it.
LEASE_SECONDS = 6
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.faults.chains.{name}" for name in NAMES),
    "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
    "JOB_STALL_SECONDS": "2",
    "JOB_RETRY_BASE_SECONDS": "0.2",
    "WEBHOOK_ALLOW_PRIVATE": "true",
    "WEBHOOK_TIMEOUT_SECONDS": "2",
    "WEBHOOK_RETRY_BASE_SECONDS": "0.5",
    "CHAIN_CACHE_SECONDS": "0.2",
    "KEY_CACHE_SECONDS": "5",
    # Bursts of requests share two processors with workers that die and start; none is refused here.
    "OVERLOAD_DELAY_SECONDS": "0",
}
ARGUMENTS = ("--nodes=2", "--workers=2", "--replicas=0", "--no-llm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, so that `make test` leaves it out."""
    for item in items:
        if "tests/faults/" in str(item.path):
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The model provider of the chains that call one."""
    with Provider().running() as running:
        yield running


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority whose certificates the stack trusts."""
    return Authority(Path(tmp_path_factory.mktemp("authority")))


@pytest.fixture(scope="module")
def fault_stack(
    tmp_path_factory: pytest.TempPathFactory, provider: Provider, authority: Authority
) -> Iterator[OwnStack]:
    """The running stack; an idle one would cost the files after it a sixth of a processor."""
    state_dir = Path(tmp_path_factory.mktemp("faults"))
    env = {**ENV, "SSL_CERT_FILE": str(authority.file)}
    running = OwnStack(state_dir, arguments=ARGUMENTS, env=env)
    running.start()
    try:
        for name in NAMES:
            model = ("--model=openai:hello", f"--base-url={provider.base_url}")
            made = running.run("chains", "add", name, "--runnable", name, *model)
            assert made.returncode == 0, made.stderr
        yield running
    finally:
        running.stop()


@pytest.fixture
def faults(fault_stack: OwnStack) -> Iterator[Faults]:
    """The stack, with nothing in flight before the test, and every part ready after it."""
    harness = Faults(fault_stack)
    harness.wait_ready()
    harness.query("DELETE FROM jobs_event RETURNING 1")
    yield harness
    harness.http.close()
    harness.wait_ready()
