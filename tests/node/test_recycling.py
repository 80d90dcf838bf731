"""Workers that are replaced while their node serves: one stack of its own, under load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fleet.chains import NAMES
from tests.fleet.load import Load, OpenStream
from tests.support.calls import chat_body
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.own_stack import OwnStack

# Under `make test-faults`: all of it is load on processes that come and go, for minutes.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

# A worker that loads takes as long on a busy machine, and must not be killed for it.
TIMEOUT_SECONDS = 15
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.fleet.chains.{name}" for name in NAMES),
    "CHAIN_CACHE_SECONDS": "0.2",
    "WEB_MAX_REQUESTS": "150",
    "WEB_MAX_REQUESTS_JITTER": "20",
    "WEB_MAX_MEMORY_MB": "500",
    "WEB_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
}


@pytest.fixture(scope="module")
def recycling(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack of one node whose workers are replaced soon."""
    own = make_stack("--no-llm", "--nodes=1", "--replicas=0", "--workers=0", env=ENV)
    own.start()
    for name in NAMES:
        made = own.run("chains", "add", name, "--runnable", name)
        assert made.returncode == 0, made.stderr
    return own


def processes(load: Load) -> set[str]:
    """Return the processes that answered."""
    return {text.split()[1] for text in load.answers}


def test_workers_are_replaced_under_load_and_no_request_or_stream_is_lost(
    recycling: OwnStack,
) -> None:
    with Load(recycling) as load:
        stream = OpenStream(recycling, 5)
        eventually(lambda: len(processes(load)) >= 4, seconds=240, what="three were replaced")
        stream.join()

    assert load.failures == []
    assert stream.is_complete
    assert recycling.part("node1")["restarts"] == 0
    assert recycling.answers()


def test_a_stream_may_take_longer_than_a_worker_may_stand_still(recycling: OwnStack) -> None:
    stream = OpenStream(recycling, TIMEOUT_SECONDS + 5)
    stream.join()

    assert stream.is_complete
    assert stream.lasted_seconds > TIMEOUT_SECONDS
    assert "WORKER TIMEOUT" not in (recycling.state_dir / "logs/node1.log").read_text()


def test_a_worker_that_has_grown_too_large_is_replaced_and_nothing_is_lost(
    recycling: OwnStack,
) -> None:
    headers = {"Authorization": f"Bearer {recycling.demo_key}"}
    log = recycling.state_dir / "logs/node1.log"
    with Load(recycling, clients=1) as load:
        time.sleep(1)
        grown = httpx.post(
            f"{recycling.url}/v1/chat/completions",
            json=chat_body("hoard", "500"),
            headers=headers,
            timeout=60,
        )
        eventually(
            lambda: "MB of memory are too many" in log.read_text(), seconds=20, what="it is seen"
        )
        before = processes(load)
        eventually(lambda: bool(processes(load) - before), seconds=90, what="another answers")

    assert grown.status_code == 200, grown.text
    assert load.failures == []
