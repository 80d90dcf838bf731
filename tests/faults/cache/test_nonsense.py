"""A node's answers are right for any nonsense in Redis's place."""

from __future__ import annotations

import re
import socketserver
import subprocess
import sys
import threading
import time

import pytest

from tests.faults.cache.client import Client
from tests.faults.cache.harness import CacheFaults
from tests.provider import Provider
from tests.stack_plugin import BASE_DIR, free_public_port
from tests.support.waiting import slack

pytestmark = pytest.mark.timeout(90)


class Nonsense(socketserver.ThreadingTCPServer):
    """A server in Redis's place that says the same to everything."""

    allow_reuse_address = True
    daemon_threads = True
    says = b""
    heard = 0


class NonsenseHandler(socketserver.BaseRequestHandler):
    server: Nonsense

    def handle(self) -> None:
        try:
            while self.request.recv(65_536):
                self.server.heard += 1
                self.request.sendall(self.server.says)
        except OSError:
            pass


NONSENSE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "noise": bytes(range(128, 256)) + b"\r\n",
    "yes": b"+OK\r\n",
    "yes to several": b"+OK\r\n" * 4,
    "a number": b":7\r\n",
    "nothing": b"$-1\r\n",
    "an endless list": b"*1000000\r\n",
    "a list": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
}


def test_a_node_whose_redis_talks_nonsense_answers_all_the_same(
    faults: CacheFaults, provider: Provider, mark: str
) -> None:
    with Nonsense(("127.0.0.1", 0), NonsenseHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"127.0.0.1:{free_public_port()}"
        environment = {
            **faults.stack.env,
            "NODE_NAME": "misled",
            "BIND": address,
            "CACHE_URL": f"redis://127.0.0.1:{server.server_address[1]}/0",
            "REDIS_URL": "",
            "REDIS_RETRY_SECONDS": "0.1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.conf.py", "config.wsgi"],
            env=environment,
            cwd=BASE_DIR,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            client = Client(address, faults.stack.demo_key)
            faults.wait_until(lambda: _is_up(client), seconds=20, why="the node does not start")
            for what, says in NONSENSE.items():
                server.says, server.heard = says, 0
                texts = [f"{mark} {what} {number}" for number in range(8)]
                for text in [*texts, *texts]:
                    answer = client.ask("cached", text)
                    assert answer.status == 200, (what, answer.body)
                    assert answer.echoed == text, what
                    assert answer.seconds < slack(1.0), what
                    time.sleep(0.02)
                assert answer.cache_status.endswith("detail=near")
                assert len(provider.calls_of(f"{mark} {what} ")) >= len(texts)
                assert server.heard > 0, what
            text = client.send("GET", "/metrics").body.decode()
            assert re.search(r'headrace_redis_failures_total\{kind="garbage"\} [1-9]', text)
            client.close()
        finally:
            process.terminate()
            process.wait(20)
            server.shutdown()


def _is_up(client: Client) -> bool:
    try:
        return client.send("GET", "/health/ready").status == 200
    except OSError:
        return False
