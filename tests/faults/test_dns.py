"""A name server that hangs delays the owners of its names, and no one else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.conftest import ENV
from tests.faults.harness import Faults
from tests.faults.name_server import NamedStack, NameServer
from tests.jobs.notifications.receivers import Receiver, answer
from tests.provider import Provider
from tests.support.waiting import slack

ARGUMENTS = ("--nodes=1", "--workers=1", "--replicas=0", "--no-llm")
START_SECONDS = 300.0
DNS_SECONDS = 2.0
SILENT_SECONDS = 12.0
# More than the threads that gevent has for everything.
ASKING = 24
# A lookup, and what a busy machine adds to a request that needs none.
REFUSED_SECONDS = DNS_SECONDS + 6.0
OTHERS_SECONDS = 3.0

pytestmark = [
    pytest.mark.timeout(240, func_only=True),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="only root has a mount namespace, and port 53",
    ),
]


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def named(
    names: NameServer, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faults]:
    """A stack that uses this name server."""
    env = {
        **ENV,
        "DNS_TIMEOUT_SECONDS": f"{DNS_SECONDS:g}",
        "PROVIDER_MAX_RETRIES": "0",
        "WEBHOOK_TIMEOUT_SECONDS": "3",
    }
    stack = NamedStack(tmp_path_factory.mktemp("dns") / "s", arguments=ARGUMENTS, env=env)
    try:
        stack.start(seconds=START_SECONDS)
        url = provider.base_url.replace("127.0.0.1", "provider.test")
        model = ("--model=openai:hello", f"--base-url={url}")
        for chain, options in (("ask", model), ("quick", ())):
            made = stack.run("chains", "add", chain, "--runnable", chain, *options)
            assert made.returncode == 0, made.stderr
        yield Faults(stack)
    finally:
        stack.stop()


def chat(faults: Faults, chain: str) -> tuple[httpx.Response, float]:
    """Call a chain, and return how long that took."""
    message = {"role": "user", "content": f"Hi {time.monotonic()}"}
    began = time.monotonic()
    body = {"model": chain, "messages": [message]}
    answered = faults.http.post("/v1/chat/completions", json=body)
    return answered, time.monotonic() - began


def test_a_name_server_that_hangs_delays_no_other_request(named: Faults, names: NameServer) -> None:
    assert chat(named, "ask")[0].status_code == 200
    assert "provider.test" in names.asked
    with Receiver(answer(200)) as receiver:
        url = receiver.url().replace("127.0.0.1", "receiver.test")
        with names.silent(), ThreadPoolExecutor(ASKING) as threads:
            told = named.post_many(ASKING, mark="told", chain="quick", webhook_url=url)
            asked = named.post_many(3, mark="asks", chain="ask", max_attempts=20)
            waiting = [threads.submit(chat, named, "ask") for _ in range(ASKING)]
            until = time.monotonic() + SILENT_SECONDS
            while time.monotonic() < until:
                served, seconds = chat(named, "quick")
                assert served.status_code == 200, served.text
                assert seconds < slack(OTHERS_SECONDS)
                quick = named.post_many(1, mark=f"beside {until - time.monotonic()}", chain="quick")
                named.wait_until(
                    lambda quick=quick: named.job(quick[0])["status"] == "succeeded",
                    seconds=OTHERS_SECONDS,
                    why="another job waits",
                )
                time.sleep(0.2)
            # One may have had the connection of the request before.
            refused = [one.result() for one in waiting if one.result()[0].status_code != 200]
            assert len(refused) > ASKING / 2
            for response, seconds in refused:
                assert response.status_code == 502, response.text
                assert response.json()["error"]["code"] == "provider_unreachable"
                assert seconds < slack(REFUSED_SECONDS)
            assert receiver.received == []
        named.texts.update(dict.fromkeys(asked, "Hello there."))
        named.wait_for_all(seconds=90)
        named.check([*told, *asked])
        # Each is delivered once, and none is lost.
        named.wait_until(
            lambda: len(receiver.received) >= ASKING, seconds=60, why="webhooks are held up"
        )
        ids = [received.headers["webhook-id"] for received in receiver.received]
        assert len(set(ids)) == len(ids) == ASKING
    assert chat(named, "ask")[0].status_code == 200
