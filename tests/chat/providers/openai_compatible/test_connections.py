"""Connections to a provider: reused, replaced, bounded, and given up in time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chat.chains.config import ChainConfig
from chat.errors import ProviderError
from chat.providers.chat_model import ResilientChatModel
from chat.providers.errors import FirstTokenTimeout
from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.errors import (
    ConnectTimeout,
    ProviderResponseError,
    SilenceTimeout,
    TotalTimeout,
    Unreachable,
)
from chat.providers.openai_compatible.pool import PoolExhausted, close_pools
from tests.chat.providers.openai_compatible.conftest import MakeModel
from tests.faults.authority import Authority
from tests.provider import Provider
from tests.support.waiting import slack

HELLO = b'{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(HELLO), HELLO)
Serve = Callable[[socket.socket, int], None]


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """Run a server that gives each connection, with its number, to a function; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with closing(connection):
                    serve(connection, number)
                number += 1

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)
    close_pools()


def model_at(url: str, **parameters: Any) -> OpenAICompatibleChatModel:
    return OpenAICompatibleChatModel(model="hello", base_url=url, **parameters)


def read_request(connection: socket.socket) -> bytes:
    """Return a request that comes in one or two pieces; b"" when the client is gone."""
    data = connection.recv(65_536)
    while data and (b"\r\n\r\n" not in data or not data.endswith(b"}")):
        data += connection.recv(65_536)
    return data


def opened(provider: Provider) -> float:
    """Return how many connections were opened to a provider."""
    host = provider.base_url.removeprefix("http://").removesuffix("/v1")
    name = "headrace_provider_connections_opened_total"
    return REGISTRY.get_sample_value(name, {"host": host}) or 0.0


def connections(provider: Provider, state: str) -> float | None:
    host = provider.base_url.removeprefix("http://").removesuffix("/v1")
    labels = {"host": host, "state": state}
    return REGISTRY.get_sample_value("headrace_provider_connections", labels)


# --- Reused and replaced ------------------------------------------------------------------------
def test_calls_share_a_connection_streams_and_errors_too(
    make_model: MakeModel, own_provider: Provider
) -> None:
    before = opened(own_provider)
    for name in ("hello", "crlf", "compressed", "json-for-a-stream"):
        list(make_model(name).stream("x"))
        make_model("hello").invoke("x")
        with pytest.raises(ProviderResponseError):
            make_model("fail-500").invoke("x")
    assert opened(own_provider) - before == 1
    assert connections(own_provider, "idle") == 1
    assert connections(own_provider, "busy") == 0


@pytest.mark.parametrize("setting", ["KEEPALIVE_SECONDS", "CONNECTION_MAX_AGE_SECONDS"])
def test_an_old_connection_is_not_reused(
    make_model: MakeModel, own_provider: Provider, settings: Any, setting: str
) -> None:
    setattr(settings, f"PROVIDER_{setting}", 0.0)
    before = opened(own_provider)
    for _ in range(3):
        make_model("hello").invoke("x")
    assert opened(own_provider) - before == 3


def test_a_new_connection_resolves_the_name_again(
    own_provider: Provider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PROVIDER_KEEPALIVE_SECONDS = 0.0
    names = []
    resolve = socket.getaddrinfo

    def counted(host: Any, *arguments: Any, **options: Any) -> Any:
        names.append(host)
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    url = own_provider.base_url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        model_at(url).invoke("x")
    assert names == ["localhost", "localhost"]
    close_pools()


def test_a_connection_that_the_provider_closed_is_replaced() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(RESPONSE)

    with server(serve) as url:
        assert [model_at(url).invoke("x").content for _ in range(5)] == ["Hello"] * 5


def test_a_request_that_meets_the_closing_is_sent_again_once() -> None:
    requests = []

    def serve(connection: socket.socket, number: int) -> None:
        requests.append(read_request(connection))
        if number == 0:
            connection.sendall(RESPONSE)
            requests.append(read_request(connection))
        elif number == 1:
            connection.sendall(RESPONSE)

    with server(serve) as url:
        model = model_at(url)
        assert [model.invoke("x").content for _ in range(2)] == ["Hello", "Hello"]
        assert len(requests) == 3
        # On a new connection nothing says that the request was not read.
        with pytest.raises(Unreachable):
            model.invoke("x")


def test_an_answer_to_a_body_that_was_not_read_is_read() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(refusal)
        # What was not read makes the kernel reset the connection; the answer is there by then.
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)

    with server(serve) as url, pytest.raises(Exception) as caught:  # noqa: PT011
        model_at(url).invoke("x" * 5_000_000)
    assert getattr(caught.value, "status_code", None) == 413


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02",
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_response_that_is_cut_or_none_is_unreachable(cut: bytes, is_stream: bool) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(cut)

    with server(serve) as url, pytest.raises(Unreachable):
        list(model_at(url).stream("x")) if is_stream else model_at(url).invoke("x")


# --- Timeouts -----------------------------------------------------------------------------------
def test_a_stream_without_a_first_token_is_given_up(make_model: MakeModel) -> None:
    for name in ("silent-after-the-role", "hang"):
        model = make_model(name, first_token_seconds=0.3, timeout=30)
        started = time.monotonic()
        with pytest.raises(FirstTokenTimeout):
            list(model.stream("x"))
        assert time.monotonic() - started < slack(10)


def test_a_silent_model_is_left_for_its_fallback(own_provider: Provider, settings: Any) -> None:
    settings.PROVIDER_FIRST_TOKEN_SECONDS = 0.3
    model = ResilientChatModel.from_config(
        ChainConfig(
            slug="x",
            version=1,
            runnable="assistant",
            model_name="openai:silent-after-the-role",
            fallback_models=("openai:hello",),
            base_url=own_provider.base_url,
        )
    )
    assert "".join(chunk.text for chunk in model.stream("left")) == "Hello there."
    called = [call.body["model"] for call in own_provider.calls_of("left")]
    assert called == ["silent-after-the-role", "hello"]
    close_pools()


def test_a_stream_that_falls_silent_is_given_up(
    make_model: MakeModel, own_provider: Provider
) -> None:
    stream = make_model("stall-mid-stream", silence_seconds=0.3).stream("falls silent")
    assert [next(stream).text for _ in range(3)] == ["One ", "two ", "three "]
    with pytest.raises(SilenceTimeout):
        next(stream)
    call = own_provider.calls_of("falls silent")[0]
    own_provider.seconds_until_hung_up(call, since=time.monotonic())


@pytest.mark.parametrize("name", ["hang", "stall-mid-stream"])
def test_the_total_ends_a_call_of_any_kind(make_model: MakeModel, name: str) -> None:
    with pytest.raises(TotalTimeout):
        make_model(name, timeout=0.4).invoke("x")
    with pytest.raises(TotalTimeout):
        list(make_model(name, timeout=0.4).stream("x"))


def test_a_server_that_takes_no_connection_is_given_up() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        try:
            with pytest.raises(ConnectTimeout):
                model_at(f"http://127.0.0.1:{address[1]}/v1", connect_seconds=0.3).invoke("x")
        finally:
            for client in waiting:
                client.close()


# --- Bounded and given back ---------------------------------------------------------------------
def test_a_call_beyond_the_bound_waits_and_is_refused(
    make_model: MakeModel, own_provider: Provider, settings: Any
) -> None:
    settings.PROVIDER_MAX_CONNECTIONS = 1
    settings.PROVIDER_CONNECT_SECONDS = 0.2
    close_pools()
    refused = REGISTRY.get_sample_value("headrace_provider_pool_exhausted_total") or 0.0
    first = make_model("slow-stream").stream("x")
    next(first)
    assert connections(own_provider, "busy") == 1
    with pytest.raises(PoolExhausted, match="PROVIDER_MAX_CONNECTIONS") as caught:
        make_model("hello").invoke("x")
    assert isinstance(caught.value, ProviderError)
    assert REGISTRY.get_sample_value("headrace_provider_pool_exhausted_total") == refused + 1
    list(first)
    assert make_model("hello").invoke("x").content == "Hello there."


@pytest.mark.parametrize("name", ["hang", "refused"])
def test_failed_calls_give_their_slot_back(make_model: MakeModel, settings: Any, name: str) -> None:
    settings.PROVIDER_MAX_CONNECTIONS = 1
    settings.PROVIDER_CONNECT_SECONDS = 0.2
    close_pools()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    model = model_at(free) if name == "refused" else make_model(name, timeout=0.1)
    for _ in range(3):
        with pytest.raises((Unreachable, TotalTimeout)):
            model.invoke("x")


def test_a_stream_that_is_closed_hangs_up_on_the_provider(
    make_model: MakeModel, own_provider: Provider
) -> None:
    stream = make_model("slow-stream").stream("is closed")
    next(stream)
    closed_at = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    call = own_provider.calls_of("is closed")[0]
    assert own_provider.seconds_until_hung_up(call, since=closed_at) < 1.0
    assert connections(own_provider, "busy") == 0


# --- Proxies ------------------------------------------------------------------------------------
def test_a_proxy_is_sent_the_complete_address_and_its_password(settings: Any) -> None:
    requests = []

    def serve(connection: socket.socket, number: int) -> None:
        requests.append(read_request(connection))
        connection.sendall(RESPONSE)

    with server(serve) as url:
        settings.PROVIDER_PROXY_URL = url.replace("http://", "http://u:p%40@").removesuffix("/v1")
        assert model_at("http://llm.example/v1").invoke("x").content == "Hello"
    assert requests[0].startswith(b"POST http://llm.example/v1/chat/completions HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dTpwQA==\r\n" in requests[0]


def test_a_proxy_is_a_tunnel_to_a_server_with_tls(settings: Any) -> None:
    requests = []

    def serve(connection: socket.socket, number: int) -> None:
        requests.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with server(serve) as url:
        settings.PROVIDER_PROXY_URL = url.removesuffix("/v1")
        with pytest.raises(Unreachable):
            model_at("https://llm.example/v1").invoke("x")
    assert requests[0].startswith(b"CONNECT llm.example:443 HTTP/1.")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "https://127.0.0.1:9", "http://"])
def test_a_proxy_that_does_not_speak_http_is_refused(settings: Any, proxy: str) -> None:
    settings.PROVIDER_PROXY_URL = proxy
    with pytest.raises(ValueError, match="PROVIDER_PROXY_URL"):
        model_at("http://llm.example/v1")


def test_the_environments_proxy_is_used_with_and_without_a_scheme(
    own_provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(RESPONSE)

    with server(serve) as url:
        for proxy in (url.removesuffix("/v1"), url.removeprefix("http://").removesuffix("/v1")):
            monkeypatch.setenv("http_proxy", proxy)
            assert model_at("http://llm.example/v1").invoke("x").content == "Hello"


def test_hosts_in_no_proxy_are_called_directly(
    own_provider: Provider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PROVIDER_PROXY_URL = "http://127.0.0.1:9"
    with pytest.raises(Unreachable):
        model_at(own_provider.base_url).invoke("x")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert model_at(own_provider.base_url).invoke("x").content == "Hello there."
    close_pools()


# --- TLS ----------------------------------------------------------------------------------------
def test_a_server_is_verified_by_the_bundle_of_the_setting(tmp_path: Path, settings: Any) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate(ends_in=timedelta(days=1)))

    def serve(connection: socket.socket, number: int) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            secured.sendall(RESPONSE)

    with server(serve) as url:
        model = model_at(url.replace("http:", "https:"))
        with pytest.raises(Unreachable) as caught:
            model.invoke("x")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        settings.PROVIDER_CA_BUNDLE = str(authority.file)
        assert model.invoke("x").content == "Hello"
