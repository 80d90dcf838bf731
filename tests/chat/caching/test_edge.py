"""The cache's parts within a node's process: parsed requests of the edge, and unread streams."""

from __future__ import annotations

import io
import json
import socket
import uuid
from typing import Any

import httpx
import pytest

from access.models import ApiKey
from access.services import create_key, set_secret
from chat.caching.cache_key import Cacheable
from chat.caching.edge import EdgeCache
from chat.caching.streams import Record, record
from chat.models import Chain
from chat.running.run import Run
from chat.running.sse import Events
from config.api.json import loads
from scaling.response_cache.keys import answer_key
from scaling.response_cache.policy import CachePolicy
from scaling.response_cache.single_flight import Leader, SingleFlight
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, error_of, run_manage

# Prints what reached Django for a request with a well-formed key while the database is unavailable.
WITHOUT_A_DATABASE = """
import io, json
from access.models import ApiKey
from access.services import set_secret
from chat.caching.edge import EdgeCache
body = json.dumps({"model": "assistant", "messages": []}).encode()
passed_on = []
edge = EdgeCache(lambda environ, start: [passed_on.append(environ["wsgi.input"].read()) or b""])
for _ in range(3):
    edge({
        "REQUEST_METHOD": "POST", "PATH_INFO": "/v1/chat/completions",
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": "Bearer " + set_secret(ApiKey()), "wsgi.input": io.BytesIO(body),
    }, None)
print(json.dumps([text == body for text in passed_on]))
"""


def ignore_start(*_: Any) -> Any:
    """Ignore a response's status and headers."""


def environ(key: str, body: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(body).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/chat/completions",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "HTTP_AUTHORIZATION": f"Bearer {key}",
        "wsgi.input": io.BytesIO(data),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["always", "off"])
def test_the_edge_memoizes_so_many_requests_and_no_more(settings: Any, mode: str) -> None:
    settings.CACHE_NEAR_MAX_ENTRIES = 50
    slug = f"edge-{uuid.uuid4().hex}"
    Chain.objects.create(
        slug=slug,
        runnable="assistant",
        model="openai:echo",
        base_url="http://127.0.0.1:9/v1",
        cache_mode=mode,
    )
    key = create_key(name="edge").secret
    passed_on: list[str] = []

    def django(environ: Any, start_response: Any) -> list[bytes]:
        passed_on.append(json.loads(environ["wsgi.input"].read())["messages"][0]["content"])
        return [b""]

    edge = EdgeCache(django)
    sizes = []
    for number in range(300):
        edge(environ(key, chat_body(slug, f"question {number}")), ignore_start)
        sizes.append(len(edge.parsed_requests))
    # All of it reached Django as it was sent.
    assert passed_on == [f"question {number}" for number in range(300)]
    assert sizes[:50] == list(range(1, 51))
    assert max(sizes) == 50


@pytest.fixture
def leader() -> Leader:
    made = SingleFlight().try_begin(f"stream:{uuid.uuid4().hex}")
    assert made is not None
    assert made.token
    return made


def events() -> Events:
    yield b"data: 1\n\n"
    yield b"data: 2\n\n"
    return b"data: [DONE]\n\n"


def recorded(leader: Leader) -> Events:
    request = Cacheable(chain="test", policy=CachePolicy(), key=leader.key)
    run = Run(timeout_seconds=10, options={})
    return record(
        events(),
        Record(leader, request, {}),
        run,
        closing=b"data: [DONE]\n\n",
        volatile_texts=lambda body: (),
    )


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_stream_that_is_left_ends_its_leader_also_when_it_was_never_read(
    leader: Leader, read: int
) -> None:
    stream = recorded(leader)
    for _ in range(read):
        next(stream)
    assert SingleFlight().try_begin(leader.key) is None
    stream.close()
    assert leader.wait(0)
    assert leader.entry is None
    again = SingleFlight().try_begin(leader.key)
    assert again is not None
    again.abandon()


def test_a_recorded_stream_is_what_was_sent(leader: Leader) -> None:
    stream, sent = recorded(leader), []
    try:
        while True:
            sent.append(next(stream))
    except StopIteration as end:
        sent.append(end.value)
    assert sent == [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
    assert leader.entry is not None
    assert leader.entry.body == b"".join(sent)


def test_without_a_database_the_request_goes_to_django(stack: EmbeddedStack) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://headrace:x@127.0.0.1:{closed.getsockname()[1]}/headrace"
    env = {"DATABASE_URL": url, "DATABASE_POOL_TIMEOUT_SECONDS": "0.3"}
    done = run_manage(stack, "shell", "--no-imports", "-c", WITHOUT_A_DATABASE, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True] * 3


def test_what_django_refuses_is_not_the_edge_s_to_stumble_over(
    http: httpx.Client, stack: EmbeddedStack
) -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    body = chat_body("cached", "deep")
    error_of(http.post("/v1/chat/completions", json={**body, "stop": deep}), 400, "json_too_deep")
    nested = {"input": deep, "config": {}, "kwargs": {}}
    error_of(http.post("/chains/cached/invoke", json=nested), 400, "json_too_deep")
    error_of(http.post("/v1/chat/completions", json={**body, "model": "x" * 100_000}), 400, None)
    text = b'{"model": "cached", "messages": [], "seed": 1e999}'
    headers = {"Content-Type": "application/json"}
    answer = http.post("/v1/chat/completions", content=text, headers=headers)
    error_of(answer, 400, answer.json()["error"]["code"])


def test_what_may_be_read_can_be_written_into_a_key(stack: EmbeddedStack, settings: Any) -> None:
    settings.MAX_JSON_DEPTH = 200
    asked = {"input": loads(b"[" * 200 + b"]" * 200), "config": {}}
    assert answer_key("chain", "invoke", (1, 1), asked)
    done = run_manage(stack, "check", env={"MAX_JSON_DEPTH": "201"})
    assert done.returncode == 1
    assert "MAX_JSON_DEPTH" in done.stderr


@pytest.mark.django_db
def test_what_must_come_over_https_is_django_s_to_redirect(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    slug = f"edge-{uuid.uuid4().hex}"
    Chain.objects.create(slug=slug, runnable="assistant", model="openai:echo", cache_mode="always")
    key = create_key(name="edge").secret
    edge = EdgeCache(lambda environ, start_response: [b""])
    sent = environ(key, chat_body(slug))
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    body = sent["wsgi.input"].getvalue()
    for proto in ("http", "", "ftp"):
        edge({**sent, "HTTP_X_FORWARDED_PROTO": proto}, ignore_start)
        edge.handle(sent["PATH_INFO"], {**headers, "x-forwarded-proto": proto}, body)
    edge.handle(sent["PATH_INFO"], headers, body)
    assert not edge.parsed_requests
    edge.handle(sent["PATH_INFO"], {**headers, "x-forwarded-proto": "https"}, body)
    assert len(edge.parsed_requests) == 1


@pytest.mark.django_db
def test_nothing_is_remembered_of_those_without_a_key() -> None:
    edge = EdgeCache(lambda environ, start_response: [b""])
    # Well formed, and of no account.
    secret = set_secret(ApiKey())
    edge(environ(secret, chat_body("some-chain")), ignore_start)
    assert not edge.parsed_requests


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chains/cached/invoke"])
@pytest.mark.parametrize("is_well_formed", [True, False])
def test_a_wrong_key_gets_djangos_answer_in_front_of_it(
    http: httpx.Client, path: str, is_well_formed: bool
) -> None:
    secret = set_secret(ApiKey()) if is_well_formed else "hr_wrong"
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=http.base_url, headers=headers) as stranger:
        edge = stranger.post(path, json=chat_body("cached"))
        # A query is left to Django.
        django = stranger.post(f"{path}?by=django", json=chat_body("cached"))
    assert error_of(edge, 401, "invalid_api_key") == error_of(django, 401, "invalid_api_key")
    for name in ("content-type", "www-authenticate"):
        assert edge.headers[name] == django.headers[name]
    assert edge.headers["x-request-id"]
