"""Refused requests: their status and code, always in the one envelope."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, error_of, manage

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
# The stack's limits are the settings' defaults.
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_MESSAGES = 1000
MAX_CONTENT_CHARS = 1_000_000


@pytest.fixture(scope="module")
def anybody(stack: EmbeddedStack, chains: None) -> Iterator[httpx.Client]:
    """An HTTP client without a key."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


# --- Keys ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/assistant"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations"),
        ("GET", "/v1/conversations/conv_" + "0" * 32),
        ("PATCH", "/v1/conversations/conv_" + "0" * 32),
        ("DELETE", "/v1/conversations/conv_" + "0" * 32),
        ("GET", "/v1/conversations/conv_" + "0" * 32 + "/messages"),
        ("POST", "/v1/conversations/conv_" + "0" * 32 + "/messages"),
        ("POST", "/chains/assistant/invoke"),
        ("POST", "/chains/assistant/batch"),
        ("POST", "/chains/assistant/stream"),
        ("GET", "/chains/assistant/input_schema"),
    ],
)
def test_nothing_is_to_be_had_without_a_key(anybody: httpx.Client, method: str, path: str) -> None:
    response = anybody.request(method, path, json={})
    error = error_of(response, 401, "missing_api_key")
    assert error["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer hr_",
        "Bearer hr_" + "0" * 49,
        "Bearer sk-1234",
        "Bearer hr_" + "a" * 8000,
        b"Bearer hr_\xff\xfe",
        "Bearer ' OR 1=1 --",
        "Bearer hr_%00",
    ],
)
def test_a_made_up_key_is_invalid(anybody: httpx.Client, header: str | bytes) -> None:
    response = anybody.get("/v1/models", headers={"Authorization": header})  # type: ignore[arg-type]
    assert error_of(response, 401, "invalid_api_key")["type"] == "authentication_error"


@pytest.mark.parametrize("header", ["Basic aHI6aHI=", "hr_x", "Token x", ""])
def test_another_scheme_is_no_key(anybody: httpx.Client, header: str) -> None:
    error_of(anybody.get("/v1/models", headers={"Authorization": header}), 401, "missing_api_key")


def test_a_revoked_key_is_refused_by_both_nodes_within_a_second(
    stack: EmbeddedStack, keys: dict[str, dict[str, str]], node_urls: list[str]
) -> None:
    key = keys["to be revoked"]
    headers = {"Authorization": f"Bearer {key['key']}"}
    assert len(node_urls) == 2
    for node in node_urls:
        assert httpx.get(f"{node}/v1/models", headers=headers).status_code == 200
    manage(stack, "apikey", "revoke", key["id"])
    time.sleep(1.05)
    for node in [*node_urls, stack.url]:
        error_of(httpx.get(f"{node}/v1/models", headers=headers), 401, "revoked_api_key")


def test_an_expired_key_is_refused(make_http: Callable[[str], httpx.Client]) -> None:
    http = make_http("expired")
    error_of(http.get("/v1/models"), 401, "expired_api_key")
    error_of(http.post(CHAT, json=chat_body("assistant")), 401, "expired_api_key")


def test_a_key_without_the_scope_is_forbidden(make_http: Callable[[str], httpx.Client]) -> None:
    http = make_http("without scopes")
    error = error_of(http.post(CHAT, json=chat_body("assistant")), 403, "missing_scope")
    assert error["type"] == "permission_error"


# --- Bodies that are no good JSON ---------------------------------------------------------------
def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """Return a completion whose metadata-like field is nested so deep."""
    value = opening * levels + closing * levels
    return b'{"model":"provider-hello","messages":' + value.encode() + b"}"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", None),
        (b"{", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"model": "a"} {"model": "b"}', "invalid_json"),
        (b"{'model': 'a'}", "invalid_json"),
        (b'{"a": 1,}', "invalid_json"),
        (b'{"temperature": NaN}', "invalid_json"),
        (b'{"temperature": Infinity}', "invalid_json"),
        (b'{"temperature": -Infinity}', "invalid_json"),
        (b'{"temperature": 1e999}', None),
        (b'{"seed": 123456789012345678901234567890}', None),
        (b'{"model": "\xff\xfe"}', "invalid_json"),
        (b'{"model": "\xed\xa0\x80"}', "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b'{"model": "\\udc00\\ud800"}', "invalid_json"),
        (b'{"model": "a"}\xef\xbb\xbf', "invalid_json"),
        ('{"model": "a"}'.encode("utf-16"), "invalid_json"),
        (b'{"model": "a\x00b"}', "invalid_json"),
        (b'{"a": "\x01"}', "invalid_json"),
        (nested(MAX_JSON_DEPTH), "json_too_deep"),
        (nested(1000), "json_too_deep"),
        (nested(20_000), "invalid_json"),
        (nested(100_000), "json_too_many_items"),
        (nested(1000, '{"a":', "}").replace(b'{"a":}', b'{"a":1}'), "json_too_deep"),
        (b"[" * 20_000, "invalid_json"),
        (b"[" * 100_000, "json_too_many_items"),
    ],
)
def test_a_body_that_is_no_good_json_is_a_400(
    http: httpx.Client, body: bytes, code: str | None
) -> None:
    for path in (CHAT, "/v1/conversations", "/chains/echo/invoke"):
        response = http.post(path, content=body, headers=JSON)
        if code is None:
            assert response.status_code == 400
        else:
            error_of(response, 400, code)


def test_nesting_within_the_limit_is_read(http: httpx.Client) -> None:
    value: Any = "leaf"
    for _ in range(MAX_JSON_DEPTH - 2):
        value = [value]
    response = http.post("/chains/mirror/invoke", json={"input": value})
    assert response.status_code == 200
    assert response.json()["output"] == value


@pytest.mark.parametrize("body", [b"null", b"5", b'"text"', b"[]", b"true", b"[{}]"])
def test_json_that_is_no_object_is_refused(http: httpx.Client, body: bytes) -> None:
    for path in (CHAT, "/v1/conversations", "/chains/echo/invoke", "/chains/echo/batch"):
        error_of(http.post(path, content=body, headers=JSON), 400, None)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/xml",
        "",
        "json",
    ],
)
def test_another_content_type_is_a_415(http: httpx.Client, content_type: str) -> None:
    body = json.dumps(chat_body("provider-hello")).encode()
    for path in (CHAT, "/v1/conversations", "/chains/echo/invoke"):
        response = http.post(path, content=body, headers={"Content-Type": content_type})
        error_of(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;"]
)
def test_json_by_its_other_names_is_read(http: httpx.Client, content_type: str) -> None:
    body = json.dumps(chat_body("provider-hello")).encode()
    response = http.post(CHAT, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 200


# --- Too much -----------------------------------------------------------------------------------
def test_a_body_over_the_limit_is_a_413_by_its_length(http: httpx.Client) -> None:
    body = b'{"model":"' + b"x" * MAX_BODY_BYTES + b'"}'
    error_of(http.post(CHAT, content=body, headers=JSON), 413, "body_too_large")


def test_a_body_over_the_limit_is_a_413_in_chunks_too(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"model":"'
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            yield b"x" * 65536
        yield b'"}'

    error_of(http.post(CHAT, content=chunks(), headers=JSON), 413, "body_too_large")


def test_a_body_in_chunks_is_read(http: httpx.Client) -> None:
    body = json.dumps(chat_body("provider-hello")).encode()
    pieces = (body[i : i + 7] for i in range(0, len(body), 7))
    assert http.post(CHAT, content=pieces, headers=JSON).status_code == 200


def test_a_body_just_under_the_limit_is_read(http: httpx.Client) -> None:
    text = "x" * (MAX_BODY_BYTES - 20)
    response = http.post("/chains/no_json/invoke", content=b'{"input":"%b"}' % text.encode())
    # Read and refused for its type: no 413.
    assert response.status_code in (400, 415, 422, 500)


def test_too_many_messages_are_refused(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "x"}] * MAX_MESSAGES
    body = {"model": "provider-hello", "messages": messages}
    assert http.post(CHAT, json=body).status_code == 200
    body["messages"] = [*messages, messages[0]]
    assert error_of(http.post(CHAT, json=body), 400, None)["param"] == "messages"


def test_over_long_content_is_refused(http: httpx.Client) -> None:
    long = "x" * (MAX_CONTENT_CHARS + 1)
    half = {"role": "user", "content": "x" * (MAX_CONTENT_CHARS // 2 + 1)}
    for messages in (
        [{"role": "user", "content": long}],
        [{"role": "user", "content": [{"type": "text", "text": long}]}],
        [half, half],
        [{"role": "user", "content": [{"type": "text", "text": half["content"]}] * 2}],
    ):
        response = http.post(CHAT, json={"model": "provider-hello", "messages": messages})
        error_of(response, 400, None)


# --- The wrong things ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["Hello"]}, "messages.0"),
        ({"messages": [{}]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "x": 1}]}, "messages.0.x"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": ["provider-hello"]}, "model"),
        ({"model": "x" * 65}, "model"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools.0"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    response = http.post(CHAT, json={**chat_body("provider-hello"), **change})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)


@pytest.mark.parametrize(
    "model", ["gpt-5", "Assistant", "../assistant", "assistant\0", "a\nb", "😀", "' OR 1=1"]
)
def test_an_unknown_model_is_a_404(http: httpx.Client, model: str) -> None:
    error = error_of(http.post(CHAT, json=chat_body(model)), 404, "model_not_found")
    assert error["param"] == "model"
    error_of(http.post("/v1/conversations", json={"chain": model}), 404, "model_not_found")


def test_a_nul_and_control_characters_pass_through_a_chat(http: httpx.Client) -> None:
    text = "a\0b\x01\u2028\ufeff\U0010ffff"
    response = http.post(CHAT, json=chat_body("provider-echo", text))
    sent = json.loads(response.json()["choices"][0]["message"]["content"])
    assert sent["messages"][-1]["content"] == text


def test_a_refused_request_calls_no_provider(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    http.post(CHAT, json=chat_body("provider-hello", marker, logprobs=True))
    http.post(CHAT, json=chat_body("provider-hello", marker, temperature=9))
    assert provider.calls_of(marker) == []


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/jobs", "/chains/echo/invoke"])
def test_the_methods_of_an_address_need_no_key(stack: EmbeddedStack, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer hr_none"}):
        response = httpx.options(f"{stack.url}{path}", headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        assert "OPTIONS" in response.headers["allow"]
        assert "x-ratelimit-limit-requests" not in response.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CHAT),
        ("PUT", CHAT),
        ("DELETE", CHAT),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/assistant"),
        ("PUT", "/v1/conversations"),
        ("POST", "/v1/conversations/conv_" + "0" * 32),
        ("DELETE", "/v1/conversations/conv_" + "0" * 32 + "/messages"),
        ("GET", "/chains/assistant/invoke"),
        ("BREW", "/v1/models"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    http: httpx.Client, method: str, path: str
) -> None:
    response = http.request(method, path)
    error_of(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/completions",
        "/v1/embeddings",
        "/v2/models",
        "/v1/models/a/b",
        "/chains/",
        "/chains/assistant",
        "/nothing",
        "/.env",
        "/static/nothing.js",
    ],
)
def test_an_unknown_address_is_a_404(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
