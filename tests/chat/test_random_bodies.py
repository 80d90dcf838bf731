"""No JSON that a client may send is an error of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access.services import create_key
from chat.chains.catalog import BUILT_CHAINS
from chat.models import Chain

CHAINS = ("echo", "mirror", "typed", "words", "question_only", "divide")
# Text of every kind, lone surrogates apart, which have tests of their own.
TEXT = st.text(max_size=20) | st.sampled_from([*CHAINS, "\0", "user", "assistant", "tool", "text"])
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
ANY = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def nearly(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects like a good one, in which some values are anything."""
    fields = {name: st.just(value) | ANY for name, value in good.items()}
    return st.fixed_dictionaries({}, optional=fields)


PART = nearly({"type": "text", "text": "Hello"})
CALL = nearly({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}})
MESSAGE = (
    nearly({"role": "user", "content": "Hello"})
    | st.fixed_dictionaries({"role": st.just("user"), "content": TEXT | st.lists(PART)})
    | st.fixed_dictionaries(
        {"role": st.just("assistant")}, optional={"content": TEXT, "tool_calls": st.lists(CALL)}
    )
    | nearly({"role": "tool", "content": "x", "tool_call_id": "c"})
)
COMPLETION = st.fixed_dictionaries(
    {
        "model": st.sampled_from(CHAINS) | TEXT,
        "messages": st.lists(MESSAGE, min_size=1, max_size=4) | ANY,
    },
    optional={
        "stream": st.booleans() | ANY,
        "stream_options": nearly({"include_usage": True}),
        "temperature": st.floats(0, 2) | LEAF,
        "max_tokens": st.integers() | LEAF,
        "stop": TEXT | st.lists(TEXT, max_size=5) | ANY,
        "seed": LEAF,
        "tools": st.lists(nearly({"type": "function", "function": {"name": "f"}}), max_size=2),
        "tool_choice": ANY,
        "response_format": ANY,
        "user": LEAF,
        "n": LEAF,
    },
)
LANGCHAIN_MESSAGE = st.fixed_dictionaries(
    {"type": st.sampled_from(["human", "ai", "system", "tool", "AIMessageChunk"]), "content": ANY},
    optional={"tool_calls": ANY, "tool_call_id": ANY, "id": ANY, "lc": ANY, "name": ANY},
)
INPUT = ANY | LANGCHAIN_MESSAGE | st.fixed_dictionaries({"messages": st.lists(LANGCHAIN_MESSAGE)})
INVOKE = st.fixed_dictionaries(
    {"input": INPUT},
    optional={
        "config": nearly({"tags": ["a"], "metadata": {}, "run_id": "x", "configurable": {}}) | ANY,
        "kwargs": ANY,
    },
)
BATCH = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=3) | ANY},
    optional={"config": st.lists(nearly({"tags": []}), max_size=3) | ANY, "kwargs": ANY},
)

Post = Callable[[str, Any], int]
QUICK = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def post(db: None) -> Post:
    """Return a function that posts JSON with a good key and returns the status."""
    for name in CHAINS:
        Chain.objects.create(slug=name, runnable=name, timeout_seconds=5)
    BUILT_CHAINS.clear()
    key = create_key(name="random", account_name="random").secret
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {key}"})

    def post(path: str, body: Any) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False)
        response = client.post(path, data, content_type="application/json")
        content = b"".join(response) if response.streaming else response.content
        assert b"Traceback" not in content
        if response.status_code >= 400:
            assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
        return int(response.status_code)

    return post


@QUICK
@given(body=COMPLETION)
def test_no_completion_is_an_error_of_ours(post: Post, body: Any) -> None:
    assert post("/v1/chat/completions", body) < 500


@QUICK
@given(body=ANY)
def test_no_json_is_an_error_of_ours(post: Post, body: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/conversations", "/chains/echo/batch"):
        assert post(path, body) < 500


@QUICK
@given(body=st.binary(max_size=60))
def test_no_bytes_are_an_error_of_ours(post: Post, body: bytes) -> None:
    assert 400 <= post("/v1/chat/completions", body) < 500


@QUICK
@given(body=INVOKE, slug=st.sampled_from(["echo", "mirror", "typed", "question_only"]))
def test_no_invoke_is_an_error_of_ours(post: Post, body: Any, slug: str) -> None:
    assert post(f"/chains/{slug}/invoke", body) < 500


@QUICK
@given(body=INVOKE)
def test_no_langserve_stream_is_an_error_of_ours(post: Post, body: Any) -> None:
    assert post("/chains/words/stream", body) < 500


@QUICK
@given(body=BATCH)
def test_no_batch_is_an_error_of_ours(post: Post, body: Any) -> None:
    assert post("/chains/mirror/batch", body) < 500


@QUICK
@given(
    body=st.fixed_dictionaries(
        {"chain": st.just("echo") | TEXT},
        optional={"metadata": st.dictionaries(TEXT, TEXT, max_size=3) | ANY},
    )
)
def test_no_conversation_is_an_error_of_ours(post: Post, body: Any) -> None:
    assert post("/v1/conversations", body) < 500
