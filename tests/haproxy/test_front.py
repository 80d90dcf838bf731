"""HAProxy's services to clients besides choosing a node: TLS, proxies in front, static files."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.lone_proxy import LoneProxy, assert_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = "192.0.2.1"
HSTS = "strict-transport-security"


# --- TLS ----------------------------------------------------------------------------------------
@pytest.fixture
def secure(make_proxy: Callable[..., LoneProxy], certificate: Path) -> LoneProxy:
    """A HAProxy with a certificate and one node."""
    lone = make_proxy(PROXY_CERTIFICATE=str(certificate), PROXY_TRUSTED_ADDRESSES=NOBODY)
    lone.add_node()
    return lone


def test_a_certificate_makes_it_https_and_nodes_know(secure: LoneProxy, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    url = f"https://localhost:{secure.tls_port}"
    with httpx.Client(verify=context) as client:
        answer = client.get(f"{url}/echo", headers={"x-forwarded-proto": "http"})
        missing = client.get(f"{url}/metrics")

    assert answer.json()["headers"]["x-forwarded-proto"] == "https"
    assert answer.headers[HSTS] == "max-age=31536000"
    assert_envelope(missing, 404, "not_found")
    assert missing.headers[HSTS] == "max-age=31536000"


def test_a_nodes_own_hsts_header_stays(secure: LoneProxy, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    answer = httpx.get(f"https://localhost:{secure.tls_port}/static/hsts", verify=context)

    assert answer.headers.get_list(HSTS) == ["max-age=1; preload"]


def test_http_is_sent_to_https_and_health_is_not(secure: LoneProxy) -> None:
    answer = httpx.post(f"{secure.url}/v1/chat/completions?x=1", headers={"host": "api.example"})

    assert answer.status_code == 308
    assert answer.headers["location"] == "https://api.example/v1/chat/completions?x=1"
    assert answer.headers["x-request-id"]
    assert HSTS not in answer.headers
    assert httpx.get(f"{secure.url}/metrics").status_code == 404
    assert httpx.get(f"{secure.url}/health/ready").status_code == 200


def test_http_on_a_port_is_sent_to_the_port_of_https(secure: LoneProxy, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=context, follow_redirects=True) as client:
        answer = client.get(f"http://localhost:{secure.port}/echo?x=%20y")
    raw = httpx.get(f"{secure.url}/a?b", headers={"host": f"[::1]:{secure.port}"})

    assert answer.status_code == 200
    assert str(answer.url) == f"https://localhost:{secure.tls_port}/echo?x=%20y"
    assert raw.headers["location"] == f"https://[::1]:{secure.tls_port}/a?b"


def test_clients_that_can_are_offered_http_2(secure: LoneProxy, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", secure.tls_port), timeout=5)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_http_2_is_answered_as_http_1_is(secure: LoneProxy, certificate: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        reason = "there is no curl on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    url = f"https://localhost:{secure.tls_port}"
    command = [curl, "-sS", "--http2", "--cacert", str(certificate), "-o", "/dev/null"]
    paths = [
        "-w",
        "%{http_version} %{http_code}\n",
        f"{url}/echo",
        "-o",
        "/dev/null",
        f"{url}/metrics",
    ]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["2 200", "2 404"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(secure: LoneProxy, certificate: Path, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=certificate)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{secure.tls_port}/echo", verify=context)


# --- Proxies in front ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 127.0.0.2", "203.0.113.7"),
        ("203.0.113.7, 127.0.0.3, 127.0.0.2", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("nonsense", "127.0.0.1"),
        (None, "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_sets_the_clients_address(
    make_proxy: Callable[..., LoneProxy], forwarded_for: str | None, client: str
) -> None:
    lone = make_proxy(PROXY_TRUSTED_ADDRESSES="127.0.0.0/8 ::1")
    lone.add_node()
    headers = {"x-forwarded-for": forwarded_for} if forwarded_for else {}

    seen = httpx.get(f"{lone.url}/echo", headers=headers).json()["headers"]

    assert seen["x-forwarded-for"] == client
    assert seen["x-forwarded-proto"] == "http"


def test_each_request_of_a_trusted_connection_has_its_own_client(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_TRUSTED_ADDRESSES="127.0.0.1", PROXY_ADDRESS_REQUESTS="2")
    lone.add_node()

    def ask(client: httpx.Client, address: str) -> int:
        return client.get(f"{lone.url}/echo", headers={"x-forwarded-for": address}).status_code

    with httpx.Client() as client:
        assert [ask(client, "203.0.113.7") for _ in range(3)] == [200, 200, 429]
        assert ask(client, "203.0.113.8") == 200
        # One /64 is one client.
        assert [ask(client, f"2001:db8::{n}") for n in range(3)] == [200, 200, 429]
        assert ask(client, "2001:db8:0:1::1") == 200


def test_https_that_ended_before_is_https(
    make_proxy: Callable[..., LoneProxy], certificate: Path
) -> None:
    lone = make_proxy(PROXY_TRUSTED_ADDRESSES="127.0.0.1", PROXY_CERTIFICATE=str(certificate))
    lone.add_node()

    by_tls = httpx.get(f"{lone.url}/echo", headers={"x-forwarded-proto": "https"})
    by_http = httpx.get(f"{lone.url}/echo", headers={"x-forwarded-proto": "http"})

    assert by_tls.json()["headers"]["x-forwarded-proto"] == "https"
    assert by_http.status_code == 308


# --- Static files -------------------------------------------------------------------------------
def test_static_files_are_fetched_once(lone: LoneProxy) -> None:
    node = lone.add_node()

    answers = [httpx.get(f"{lone.url}/static/app.0123abcd.css") for _ in range(3)]

    assert node.requests == ["/static/app.0123abcd.css"]
    assert {answer.json()["node"] for answer in answers} == {node.name}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert "age" in answers[1].headers


def test_the_openapi_document_is_fetched_once(lone: LoneProxy) -> None:
    node = lone.add_node()

    for _ in range(3):
        assert httpx.get(f"{lone.url}/v1/schema").status_code == 200

    assert node.requests == ["/v1/schema"]


def test_nothing_else_is_cached(lone: LoneProxy) -> None:
    node = lone.add_node()

    for path in ("/v1/static/app.css", "/v1/models?/static/", "/staticx"):
        for _ in range(2):
            assert httpx.get(f"{lone.url}{path}").status_code == 200

    assert len(node.requests) == 6


def test_static_files_are_still_there_without_a_node(lone: LoneProxy) -> None:
    node = lone.add_node()
    url = f"{lone.url}/static/app.0123abcd.css"
    assert httpx.get(url).status_code == 200

    node.close()

    assert httpx.get(url).status_code == 200


def test_the_admins_style_comes_from_the_cache(stack: EmbeddedStack) -> None:
    page = httpx.get(f"{stack.url}/admin/login/").text
    match = re.search(r'href="(/static/admin/css/base\.[0-9a-f]{12}\.css)"', page)
    assert match is not None
    first, second = (httpx.get(f"{stack.url}{match[1]}") for _ in range(2))

    assert first.text == second.text
    assert "immutable" in second.headers["cache-control"]
    assert "age" in second.headers
    assert "age" not in httpx.get(f"{stack.url}/admin/login/").headers
