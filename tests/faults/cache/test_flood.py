"""A flood of misses hardly delays other clients."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.cache.client import CHAT
from tests.faults.cache.harness import CacheFaults
from tests.provider import Provider
from tests.support.calls import chat_body

FLOOD = 300
# A process of its own, which hundreds of threads of this one do not delay. It sends requests until
# its input ends, and prints what came.
PROBE = """
import http.client, json, sys, threading, time
address, *asked = json.loads(sys.argv[1])
over, told = threading.Event(), []
def run(method, path, body, headers):
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.connect()
    seconds = []
    while not over.is_set():
        started = time.monotonic()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        if body:
            assert "; hit" in response.headers["cache-status"]
        seconds.append(time.monotonic() - started)
        over.wait(0.02)
    told.append(seconds)
threads = [threading.Thread(target=run, args=one) for one in asked]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(json.dumps(told))
"""

pytestmark = pytest.mark.timeout(90)


def test_a_flood_of_misses_hardly_delays_anybody_else(
    faults: CacheFaults, provider: Provider, mark: str
) -> None:
    for node in range(2):
        faults.client(node).ask("cached", mark)
        faults.client(node).ask("cached-second", mark)
    gate = threading.Barrier(FLOOD + 1)

    def flood(number: int) -> None:
        client = faults.client()
        text = f"{mark} flood {number}"
        gate.wait()
        answer = client.ask("cached-second", text)
        client.close()
        assert answer.status == 200, answer.body
        assert answer.echoed == text

    headers = {
        "Authorization": f"Bearer {faults.stack.demo_key}",
        "Content-Type": "application/json",
    }
    asked = [
        faults.stack.url.removeprefix("http://"),
        ("POST", CHAT, json.dumps(chat_body("cached", mark)), headers),
        ("GET", "/v1/models", None, headers),
    ]
    with (
        subprocess.Popen(
            [sys.executable, "-c", PROBE, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as probe,
        ThreadPoolExecutor(FLOOD) as threads,
    ):
        assert probe.stdout is not None
        assert probe.stdout.readline() == "ready\n"
        flooding = [threads.submit(flood, number) for number in range(FLOOD)]
        gate.wait()
        for one in flooding:
            one.result()
        told = json.loads(probe.communicate()[0])
    assert len(provider.calls_of(f"{mark} flood")) == FLOOD
    assert len(told) == 2
    for seconds in told:
        assert len(seconds) > 20
        seconds.sort()
        # The slowest few depend on what else the machine does.
        assert seconds[len(seconds) * 95 // 100] < 0.3, seconds[-8:]
        assert seconds[-1] < 3, seconds[-8:]
