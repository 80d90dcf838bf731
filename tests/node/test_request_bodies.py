"""Bodies that never come, over raw sockets and through HAProxy to the nodes."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.proxy_statistics import read_nodes
from tests.support.waiting import slack

BUFFER_FILLER = b"x" * 40_000


def open_request(address: str, key: str, *, path: str, length: int, body: bytes) -> socket.socket:
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def read_status(connection: socket.socket) -> int:
    return int(connection.recv(65_536).split(b" ", 2)[1])


def read_to_end(connection: socket.socket) -> bytes:
    """Return what comes until the other side hangs up; raises TimeoutError if it does not."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def is_closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.fixture
def node(node_urls: list[str]) -> str:
    return urlsplit(node_urls[0]).netloc


def test_a_node_closes_a_connection_whose_body_it_refused_to_wait_for(node: str):
    connection = open_request(
        node, "hr_bogus", path="/v1/chat/completions", length=100_000, body=BUFFER_FILLER
    )
    with connection:
        assert read_status(connection) == 401
        assert is_closed_within(connection, 5)


def test_a_body_that_was_read_leaves_the_connection_open(node: str):
    with httpx.Client(base_url=f"http://{node}") as client:
        streams = set()
        for _ in range(3):
            answer = client.post("/v1/chat/completions", json={"a": "b" * 50_000})
            assert answer.status_code == 401
            streams.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(streams) == 1


def test_bodies_that_never_come_do_not_take_the_places_of_others(stack: EmbeddedStack):
    address = urlsplit(stack.url).netloc

    def stall(number: int) -> socket.socket:
        return open_request(
            address, "hr_bogus", path="/v1/chat/completions", length=100_000, body=BUFFER_FILLER
        )

    with ThreadPoolExecutor(32) as pool:
        stalled = list(pool.map(stall, range(500)))
    try:
        # The stack's PROXY_CLIENT_TIMEOUT, and a little.
        time.sleep(5)
        assert sum(node_connections(stack)) < 50
        started = time.monotonic()
        answer = httpx.get(
            f"{stack.url}/v1/models", headers={"Authorization": f"Bearer {stack.demo_key}"}
        )
        assert answer.status_code == 200
        assert time.monotonic() - started < slack(2)
    finally:
        for connection in stalled:
            connection.close()


def node_connections(stack: EmbeddedStack) -> list[int]:
    nodes = read_nodes(stack.private_url)
    return [int(row["scur"]) for name, row in nodes.items() if name.startswith("node")]


def test_a_small_body_that_stalls_is_a_408_and_never_reaches_a_node(stack: EmbeddedStack):
    connection = open_request(
        urlsplit(stack.url).netloc, stack.demo_key, path="/v1/conversations", length=50, body=b"{"
    )
    with connection:
        assert read_status(connection) == 408


def test_a_body_that_stalls_at_the_node_is_a_408(stack: EmbeddedStack, node: str):
    body = b'{"chain": "assistant", "metadata": {'
    with open_request(
        node, stack.demo_key, path="/v1/conversations", length=500, body=body
    ) as connection:
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
        assert error["code"] == "request_timeout"


def test_a_client_that_leaves_in_its_body_is_no_error_of_ours(stack: EmbeddedStack, node: str):
    logs = stack.state_dir / "logs"
    before = sum(path.stat().st_size for path in logs.glob("node*.log"))
    for _ in range(20):
        open_request(node, stack.demo_key, path="/v1/conversations", length=500, body=b"{").close()
    time.sleep(1)
    after = sum(path.stat().st_size for path in logs.glob("node*.log"))
    assert after - before < 2_000


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO"])
@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/health/live", "/v1/models"])
def test_headers_cannot_say_what_the_path_is(stack: EmbeddedStack, name: str, path: str):
    for value in ("/v1", "/admin", "/metrics"):
        answer = httpx.get(
            f"{stack.url}{path}",
            headers={name: value, "Authorization": f"Bearer {stack.demo_key}"},
        )
        assert answer.status_code == (200 if path == "/v1/models" else 404)


@pytest.mark.parametrize("path", ["/docs", "/v1/conversations"])
def test_too_many_query_parameters_are_the_clients_fault(stack: EmbeddedStack, path: str):
    answer = httpx.get(
        f"{stack.url}{path}?{'a&' * 1100}", headers={"Authorization": f"Bearer {stack.demo_key}"}
    )
    assert answer.status_code == 400


def test_the_schema_is_also_sent_as_json(stack: EmbeddedStack):
    answer = httpx.get(f"{stack.url}/v1/schema", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")


def test_head_tells_the_length_and_sends_nothing(stack: EmbeddedStack):
    headers = {"Authorization": f"Bearer {stack.demo_key}"}
    whole = httpx.get(f"{stack.url}/v1/models", headers=headers)
    head = httpx.head(f"{stack.url}/v1/models", headers=headers)
    assert head.status_code == 200
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.content == b""


@pytest.mark.parametrize(("length", "says"), [(60_000, b"keep-alive"), (200_000, b"close")])
def test_an_answer_before_a_large_body_says_that_no_request_follows(
    node: str, length: int, says: bytes
):
    # A proxy that has sent the rest would send the next request as well, into a closed connection.
    with open_request(
        node, "hr_bogus", path="/v1/chat/completions", length=length, body=b""
    ) as connection:
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: " + says + b"\r\n" in answer
