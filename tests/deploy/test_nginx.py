"""deploy/nginx/headrace.conf on a real nginx, before nodes that are not Headrace, and our own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from fleet.cluster import ports, proxy
from fleet.cluster.binaries import from_path
from tests.haproxy.addresses import BAD, generated, is_private
from tests.support.calls import chat_body
from tests.support.fake_node import FakeNode
from tests.support.lone_proxy import assert_envelope, assert_raw_envelope, read_all
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.stack_plugin import EmbeddedStack

CONFIG = proxy.CONFIG_DIR.parent / "deploy" / "nginx" / "headrace.conf"
MAIN = """
pid nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include headrace.conf;
}
"""
UNPRIVILEGED = "nobody"


class Nginx:
    """One nginx without privileges, all its files in a directory of its own."""

    def __init__(
        self,
        binary: Path,
        nodes: list[int],
        changes: Mapping[str, str] = {},
        certificate: Path | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="headrace-nginx-"))
        self.port, self.tls_port = ports.free_ports(2, avoid=set())
        self.url = f"http://127.0.0.1:{self.port}"
        servers = "".join(
            f"server 127.0.0.1:{node} max_fails=2 fail_timeout=5s max_conns=1800;" for node in nodes
        )
        if certificate is not None:
            shutil.copyfile(certificate, self.directory / "site.pem")
            changes = {
                **changes,
                "#listen 443 ": f"listen 127.0.0.1:{self.tls_port} ",
                "#ssl_certificate     /etc/nginx/site.pem;": "ssl_certificate site.pem;",
                "#ssl_certificate_key /etc/nginx/site.key;": "ssl_certificate_key site.pem;",
                "#if ($headrace_is_plain)": "if ($headrace_is_plain)",
            }
        text = CONFIG.read_text(encoding="utf-8")
        for old, new in {
            "server 127.0.0.1:8001 max_fails=2 fail_timeout=5s max_conns=1800;": servers,
            "server 127.0.0.1:8002 max_fails=2 fail_timeout=5s max_conns=1800;": "",
            "listen 127.0.0.1:8000 ": f"listen 127.0.0.1:{self.port} ",
            "/var/cache/nginx/headrace": "cache",
            **changes,
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.directory / "headrace.conf").write_text(text, encoding="utf-8")
        (self.directory / "nginx.conf").write_text(MAIN, encoding="utf-8")
        command = [str(binary), "-p", f"{self.directory}/", "-c", "nginx.conf", "-e", "stderr"]
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            command = ["setpriv", *ids, *command]
        subprocess.run([*command, "-t", "-q"], check=True)
        self.process = subprocess.Popen([*command, "-g", "daemon off;"])
        eventually(self.listens, seconds=5, what="nginx listens")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(data)
            # Then it waits for no rest of a body.
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def binary() -> Path:
    """Debian's nginx; without it tests are skipped, but fail in CI."""
    found = from_path("nginx", minimum=(), option="-v")
    if found is None:
        reason = "there is no nginx on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def make_nginx(binary: Path, nodes: list[FakeNode]) -> Iterator[Callable[..., Nginx]]:
    """Return a maker of nginxes before the two nodes, given lines to replace."""
    made: list[Nginx] = []

    def make(changes: Mapping[str, str] = {}, certificate: Path | None = None) -> Nginx:
        made.append(Nginx(binary, [node.port for node in nodes], changes, certificate))
        return made[-1]

    yield make
    for nginx in made:
        nginx.close()


@pytest.fixture
def nodes() -> Iterator[list[FakeNode]]:
    """Two nodes."""
    made = [FakeNode("node1"), FakeNode("node2")]
    yield made
    for node in made:
        node.close()


@pytest.fixture
def nginx(make_nginx: Callable[..., Nginx]) -> Nginx:
    """A nginx of which only the addresses differ from the file."""
    return make_nginx()


# --- Failures -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("HEAD", {}), ("POST", {"idempotency-key": "one"})],
    ids=["get", "head", "post-with-key"],
)
def test_what_may_be_repeated_goes_to_another_node_when_one_dies_with_it(
    nginx: Nginx, nodes: list[FakeNode], method: str, headers: dict[str, str]
) -> None:
    nodes[0].resets = 1
    # One of the two comes to the node that dies with it.
    answers = [httpx.request(method, f"{nginx.url}/echo", headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(nodes[0].requests) + len(nodes[1].requests) == 3


def test_a_post_that_a_node_died_with_is_not_repeated(nginx: Nginx, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.resets = 1
    answer = httpx.post(f"{nginx.url}/v1/chat/completions", json={})

    assert_envelope(answer, 502, "bad_gateway")
    assert answer.headers["retry-after"] == "1"
    assert len(nodes[0].requests) + len(nodes[1].requests) == 1


def test_a_request_that_no_node_saw_goes_to_another(nginx: Nginx, nodes: list[FakeNode]) -> None:
    nodes[0].close()

    answers = [httpx.post(f"{nginx.url}/echo", json={}) for _ in range(6)]

    assert {answer.json()["node"] for answer in answers} == {"node2"}


def test_without_a_node_the_answer_is_json(nginx: Nginx, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.close()

    assert_envelope(httpx.get(f"{nginx.url}/v1/models"), 502, "bad_gateway")


def test_a_node_that_does_not_answer_is_a_504(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({"proxy_read_timeout 660s;": "proxy_read_timeout 300ms;"})

    assert_envelope(httpx.post(f"{nginx.url}/wait"), 504, "gateway_timeout")


def test_a_client_that_leaves_is_gone_at_the_node(nginx: Nginx, nodes: list[FakeNode]) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port)) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: any(n.has_client.is_set() for n in nodes), seconds=5, what="a stream")

    eventually(lambda: any(n.lost_client.is_set() for n in nodes), seconds=2, what="its end")


# --- What is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("GET /metrics HTTP/1.1", 404, "not_found"),
        ("GET /%6detrics HTTP/1.1", 404, "not_found"),
        ("GET /health/live HTTP/1.1", 404, "not_found"),
        ("GET /health/other HTTP/1.1", 404, "not_found"),
        ("POST /health/ready HTTP/1.1\r\nContent-Length: 0", 404, "not_found"),
        ("GET /v1/../metrics HTTP/1.1", 400, "bad_request"),
        ("GET /v1/%2e%2E/metrics HTTP/1.1", 400, "bad_request"),
        ("GET //metrics HTTP/1.1", 400, "bad_request"),
        ("GET /v1%5cmodels HTTP/1.1", 400, "bad_request"),
        ("GET /v1/models%00 HTTP/1.1", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nContent-Length: -1", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nHost: twice", 400, "bad_request"),
        ("nonsense", 400, "bad_request"),
        ("GET / HTTP/9.9", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: what", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400, "bad_request"),
        ("CONNECT localhost:1 HTTP/1.1", 400, "bad_request"),
        ("TRACE /v1/models HTTP/1.1", 405, "method_not_allowed"),
        (f"GET /{'x' * 9000} HTTP/1.1", 414, "uri_too_long"),
        (f"GET /{'x' * 20_000} HTTP/1.1", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nX: {'x' * 20_000}", 431, "headers_too_large"),
    ],
)  # fmt: skip
def test_what_is_refused_gets_the_envelope(
    nginx: Nginx, nodes: list[FakeNode], head: str, status: int, code: str
) -> None:
    answer = nginx.raw(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert_raw_envelope(answer.replace(b"X-Request-Id: ", b"x-request-id: "), status, code)
    assert not nodes[0].requests + nodes[1].requests


def test_no_generated_address_reaches_what_is_private(
    make_nginx: Callable[..., Nginx], nodes: list[FakeNode]
) -> None:
    closed = make_nginx({"allow 127.0.0.0/8;": ""})
    for method, target in [*(("GET", target) for target in BAD), *generated(500, seed=13)]:
        closed.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))

    reached = [path for node in nodes for path in node.requests]
    assert len(reached) > 5
    assert [path for path in reached if is_private(path)] == []


@pytest.mark.parametrize(("path", "limit"), [("/v1/x", 4_194_304), ("/v1/jobs", 22_020_096)])
def test_a_body_over_the_limit_is_refused(nginx: Nginx, path: str, limit: int) -> None:
    assert httpx.post(f"{nginx.url}{path}", content=b"x" * limit).status_code == 200
    answer = httpx.post(f"{nginx.url}{path}", content=b"x" * (limit + 1))

    assert_envelope(answer, 413, "body_too_large")


def test_the_envelopes_are_haproxys() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    for path in proxy.CONFIG_DIR.glob("errors/*.http"):
        if path.stem != "403":
            body = path.read_text(encoding="utf-8").partition("\n\n")[2]
            assert f"'{body.strip()}';" in text, path.stem


def test_a_client_with_too_many_requests_gets_retry_after(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx(
        {"burst=3000": "burst=4", "rate=300r/s": "rate=1r/m", "127.0.0.0/8    1;": ""}
    )

    with httpx.Client() as client:
        answers = [client.get(f"{nginx.url}/echo") for _ in range(8)]
        posts = [client.post(f"{nginx.url}/echo") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    for answer in (answers[-1], *posts):
        assert_envelope(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "5"


def test_the_admin_may_be_for_some_addresses_only(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({"allow 127.0.0.0/8;": ""})

    assert_envelope(httpx.get(f"{nginx.url}/admin/"), 404, "not_found")
    assert httpx.get(f"{nginx.url}/v1/models").status_code == 200


def test_the_admin_is_for_private_networks(nginx: Nginx) -> None:
    assert httpx.get(f"{nginx.url}/admin/").status_code == 200


def test_pages_of_an_allowed_origin_can_read_answers(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({'#"~^/(v1|chains)/': '"~^/(v1|chains)/'})
    headers = {"origin": "https://app.example.org"}
    answer = httpx.get(f"{nginx.url}/v1/echo", headers=headers)
    error = httpx.get(f"{nginx.url}/v1//echo", headers=headers)
    ask = {**headers, "access-control-request-method": "POST"}
    preflight = httpx.options(f"{nginx.url}/v1/echo", headers=ask)
    other = httpx.get(f"{nginx.url}/v1/echo", headers={"origin": "https://app.example.org.evil"})

    assert (answer.status_code, error.status_code, preflight.status_code) == (200, 400, 204)
    for one in (answer, error, preflight):
        assert one.headers.get_list("access-control-allow-origin") == [headers["origin"]]
    assert preflight.headers["access-control-allow-headers"] == "authorization, *"
    assert not [name for name in other.headers if name.startswith("access-control")]


def test_logins_are_few(nginx: Nginx) -> None:
    answers = [httpx.post(f"{nginx.url}/%61dmin/login/", data={"username": "a"}) for _ in range(12)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert_envelope(answers[-1], 429, "rate_limited")
    assert httpx.post(f"{nginx.url}/v1/models").status_code == 200


# --- The client ---------------------------------------------------------------------------------
def test_only_nginx_sets_the_clients_address(nginx: Nginx) -> None:
    lies = {
        "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
        "x-forwarded-ssl": "on",
        "x-real-ip": "1.2.3.4",
        "script_name": "/x",
    }
    headers = httpx.get(f"{nginx.url}/echo", headers=lies).json()["headers"]

    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert not (lies.keys() - {"x-forwarded-for", "x-forwarded-proto"}) & set(headers)


def test_a_trusted_proxy_sets_the_clients_address(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx(
        {
            "#10.0.0.1/32 1;": "127.0.0.1/32 1;",
            "#set_real_ip_from 10.0.0.1/32;": "set_real_ip_from 127.0.0.0/8;",
        }
    )
    claims = {"x-forwarded-for": "6.6.6.6, 203.0.113.7, 127.0.0.2", "x-forwarded-proto": "https"}
    answer = httpx.get(f"{nginx.url}/echo", headers=claims)

    assert answer.json()["headers"]["x-forwarded-for"] == "203.0.113.7"
    assert answer.json()["headers"]["x-forwarded-proto"] == "https"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_request_has_one_id_at_the_node_and_in_the_answer(nginx: Nginx) -> None:
    made = httpx.get(f"{nginx.url}/echo")
    brought = httpx.post(f"{nginx.url}/echo", headers={"x-request-id": "mine-1"})
    hostile = httpx.get(f"{nginx.url}/echo", headers={"x-request-id": 'a"b<c>'})

    for response in (made, brought, hostile):
        assert response.headers.get_list("x-request-id") == [
            response.json()["headers"]["x-request-id"]
        ]
    assert made.headers["x-request-id"].startswith("req_")
    assert brought.headers["x-request-id"] == "mine-1"
    assert hostile.headers["x-request-id"].startswith("req_")


def test_a_certificate_makes_it_https(make_nginx: Callable[..., Nginx], certificate: Path) -> None:
    nginx = make_nginx(certificate=certificate)
    context = ssl.create_default_context(cafile=certificate)

    secure = httpx.get(f"https://localhost:{nginx.tls_port}/echo", verify=context)
    kept = httpx.get(f"https://localhost:{nginx.tls_port}/static/x", verify=context)
    plain = httpx.post(f"{nginx.url}/v1/jobs?x=1", headers={"host": "api.example"})
    bad = httpx.get(f"{nginx.url}/v1%5cmodels")

    assert secure.json()["headers"]["x-forwarded-proto"] == "https"
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert kept.headers.get_list("strict-transport-security") == ["max-age=1; preload"]
    assert plain.status_code == 308
    assert plain.headers["location"] == "https://api.example/v1/jobs?x=1"
    assert_envelope(bad, 400, "bad_request")
    assert httpx.get(f"{nginx.url}/health/ready").status_code == 200


def test_clients_that_can_speak_http_2(make_nginx: Callable[..., Nginx], certificate: Path) -> None:
    nginx = make_nginx(certificate=certificate)
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", nginx.tls_port), timeout=5)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_static_files_are_fetched_once(nginx: Nginx, nodes: list[FakeNode]) -> None:
    answers = [httpx.get(f"{nginx.url}/static/app.0123abcd.css") for _ in range(4)]

    assert len({answer.text for answer in answers}) == 1
    assert len(nodes[0].requests) + len(nodes[1].requests) == 1


def test_a_node_gets_one_health_request_a_second_for_any_number_of_clients(
    nginx: Nginx, nodes: list[FakeNode]
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads, httpx.Client() as client:
        paths = [f"/health/ready?number={number}" for number in range(300)]
        answers = list(threads.map(lambda path: client.get(f"{nginx.url}{path}"), paths))

    assert {answer.status_code for answer in answers} == {200}
    assert sum(node.checks for node in nodes) <= time.monotonic() - began + 2


# --- Headrace -----------------------------------------------------------------------------------
@pytest.fixture
def headrace(binary: Path, stack: EmbeddedStack, chains: None) -> Iterator[Nginx]:
    """A nginx before the stack's own nodes."""
    addresses = [stack.part(name)["address"] for name in ("node1", "node2")]
    found = Nginx(binary, [int(address.rsplit(":")[-1]) for address in addresses])
    yield found
    found.close()


def test_headrace_answers_through_nginx(headrace: Nginx, stack: EmbeddedStack) -> None:
    with httpx.Client(
        base_url=headrace.url, headers={"Authorization": f"Bearer {stack.demo_key}"}, timeout=30
    ) as client:
        models = client.get("/v1/models")
        chat = client.post("/v1/chat/completions", json=chat_body("provider-hello", "hello"))
        missing = client.get("/v1/conversations/none")
        large = client.post("/v1/chat/completions", content=b"x" * 3_000_000)

    assert models.status_code == 200
    assert chat.status_code == 200, chat.text
    assert_envelope(missing, 404, "conversation_not_found")
    assert large.status_code in (400, 415)
    assert len(chat.headers.get_list("x-request-id")) == 1


def test_a_stream_passes_chunk_by_chunk(headrace: Nginx, stack: EmbeddedStack) -> None:
    body = {**chat_body("provider-slow-stream", "hello"), "stream": True}
    arrivals = []
    with httpx.stream(
        "POST",
        f"{headrace.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {stack.demo_key}"},
        json=body,
        timeout=30,
    ) as response:
        assert response.status_code == 200, json.dumps(body)
        arrivals = [time.monotonic() for line in response.iter_lines() if line.startswith("data:")]

    assert len(arrivals) > 3
    assert arrivals[-1] - arrivals[0] > 0.3
