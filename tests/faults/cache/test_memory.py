"""A node's memory is bounded, however many answers it gives."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.faults.cache.client import CHAT
from tests.faults.cache.harness import NEAR_BYTES, CacheFaults
from tests.support.calls import chat_body

DISTINCT = 20_000
MARGIN_BYTES = 6 * 1024 * 1024
FILL = """
import random, time, uuid
import orjson
from access.models import Account
from chat.caching.response_ids import completion_ids
from chat.caching.cache_key import completion_key_fields, request_key
from chat.chains.catalog import get_chain
from scaling.response_cache.entry import Entry, encode
from scaling.redis_client import run
account, config = Account.objects.get(name="default").pk, get_chain("cached").config
run_id = uuid.uuid4()
found = {{}}
for number in range({count}):
    text = f"{mark} {{number}}"
    asked = completion_key_fields({{"messages": [{{"role": "user", "content": text}}]}})
    content = f"{{text}} {{random.randbytes(300).hex()}}"
    message = {{"role": "assistant", "content": content}}
    body = orjson.dumps(
        {{"id": f"chatcmpl-{{run_id.hex}}", "created": 5, "choices": [{{"message": message}}]}}
    )
    entry = Entry(body, "application/json", time.time(), 600.0, 0.0, 0.0,
                  completion_ids(run_id, 5), 1, 1, "cached")
    key = request_key(api="completions", config=config, account_id=account, key_fields=asked)
    found["headrace:cache:value:" + key] = encode(entry)
    if len(found) == 100 or number == {count} - 1:
        run(lambda client: client.mset(found))
        found.clear()
"""

pytestmark = pytest.mark.timeout(90)


def test_a_node_s_memory_is_bounded_however_many_answers_it_gives(
    faults: CacheFaults, mark: str
) -> None:
    faults.python(FILL.format(count=DISTINCT, mark=mark))
    (pid, *_) = faults.pids("node")
    (worker,) = psutil.Process(pid).children()
    address, key = faults.nodes[0], faults.stack.demo_key

    def ask_all(start: int, end: int) -> int:
        """Send requests over several connections; return the worker's memory afterwards."""
        with ThreadPoolExecutor(4) as threads:
            for done in [
                threads.submit(_ask_quickly, address, key, mark, range(start + n, end, 4))
                for n in range(4)
            ]:
                done.result()
        return int(worker.memory_full_info().pss)

    at_first = ask_all(0, 100)
    half = ask_all(100, DISTINCT // 2)
    whole = ask_all(DISTINCT // 2, DISTINCT)
    assert whole - at_first < NEAR_BYTES + MARGIN_BYTES, (at_first, half, whole)
    # The requests' names alone, which the edge remembers, would be 4 MB more by now.
    assert whole - half < 2 * 1024 * 1024, (at_first, half, whole)


def _ask_quickly(address: str, key: str, mark: str, numbers: range) -> None:
    """Send one request after the other; each must be a hit with its own answer."""
    host, _, port = address.partition(":")
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with (
        socket.create_connection((host, int(port)), timeout=30) as connection,
        connection.makefile("rb") as answers,
    ):
        for number in numbers:
            body = json.dumps(chat_body("cached", f"{mark} {number}"))
            connection.sendall((head % len(body) + body).encode())
            lines = list(iter(answers.readline, b"\r\n"))
            headers = b"".join(lines).lower()
            assert b" 200 " in lines[0], headers
            assert b"; hit;" in headers, number
            length = re.search(rb"content-length: (\d+)", headers)
            assert length is not None
            assert b'"content":"%b %d ' % (mark.encode(), number) in answers.read(int(length[1]))
