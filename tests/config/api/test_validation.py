"""Bodies, pages and ids: what is read of what clients send."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from chat.inputs.completion_request import ChatCompletionRequest
from chat.inputs.langchain_messages import _Shape
from chat.langserve.schemas import BatchRequest
from config.api.errors import InvalidRequest, NotFound
from config.api.ids import from_public_id, new_uuid, to_public_id
from config.api.pagination import list_body, read_cursor
from config.api.validation import Integer, RequestModel, parse
from jobs.responses.schemas import ResponseRequest
from jobs.schemas import JobCreate


class Inner(RequestModel):
    """A part of a body."""

    count: Integer = 0


class Body(RequestModel):
    """A body."""

    name: Annotated[str, Field(min_length=1)]
    inner: Inner | None = None
    items: list[Inner] = []

    neutral = {"off": (False, "none")}


# --- Bodies -------------------------------------------------------------------------------------
def test_a_good_body_is_read() -> None:
    body = parse(Body, {"name": "a", "inner": {"count": 2}})
    assert body.inner is not None
    assert body.inner.count == 2


@pytest.mark.parametrize(
    ("data", "param", "code"),
    [
        ({}, "name", None),
        ({"name": ""}, "name", None),
        ({"name": 5}, "name", None),
        ({"name": None}, "name", None),
        ({"name": "a", "inner": {"count": "2"}}, "inner.count", None),
        ({"name": "a", "inner": {"count": 2.5}}, "inner.count", None),
        ({"name": "a", "inner": {"count": 1e400}}, "inner.count", None),
        ({"name": "a", "more": False}, "more", "unsupported_parameter"),
        ({"name": "a", "more": {}}, "more", "unsupported_parameter"),
        ({"name": "a", "off": 0}, "off", "unsupported_parameter"),
        ({"name": "a", "inner": {"count": True}}, "inner.count", None),
        ({"name": "a", "items": [{}, {"count": []}]}, "items.1.count", None),
        ({"name": "a", "more": 1}, "more", "unsupported_parameter"),
        ({"name": "a", "inner": {"x": 1}}, "inner.x", "unsupported_parameter"),
        ([], None, None),
        (None, None, None),
        ("a", None, None),
    ],
)
def test_the_first_fault_is_named(data: Any, param: str | None, code: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(Body, data)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "more",
    [
        {"inner": None, "items": None},
        {"inner": {"count": None, "more": None}},
        {"more": None},
        {"more": []},
        {"off": False},
        {"off": "none"},
        {"inner": {"count": 0.0}},
    ],
)
def test_what_changes_nothing_by_its_value_is_taken(more: dict[str, Any]) -> None:
    body = parse(Body, {"name": "a", **more})
    assert (body.name, body.items) == ("a", [])
    assert body.inner in (None, Inner())


def test_a_fault_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(Body, {"name": ["a secret"]})
    assert "a secret" not in caught.value.message


# --- Pages --------------------------------------------------------------------------------------
def request(query: str) -> Request:
    """Return a request with a query."""
    return Request(APIRequestFactory().get(f"/?{query}"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (20, "", True)),
        ("limit=1", (1, "", True)),
        ("limit=100", (100, "", True)),
        ("limit=007", (7, "", True)),
        ("order=asc&after=x_1", (20, "x_1", False)),
        ("order=desc", (20, "", True)),
    ],
)
def test_a_page_is_read(query: str, expected: tuple[int, str, bool]) -> None:
    cursor = read_cursor(request(query), default_order="desc")
    assert (cursor.limit, cursor.after, cursor.is_descending) == expected


@given(limit=st.text(max_size=8))
def test_a_limit_is_a_number_within_the_bounds_or_refused(limit: str) -> None:
    page = Request(APIRequestFactory().get("/", {"limit": limit}))
    is_good = limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= 100
    if is_good:
        assert read_cursor(page, default_order="asc").limit == int(limit)
        return
    with pytest.raises(InvalidRequest) as caught:
        read_cursor(page, default_order="asc")
    assert caught.value.param == "limit"


@pytest.mark.parametrize(
    ("rows", "ids", "has_more"), [(0, 0, False), (1, 1, False), (3, 3, False), (4, 3, True)]
)
def test_a_page_has_whether_there_is_more(rows: int, ids: int, has_more: bool) -> None:
    body = list_body(list(range(rows)), limit=3, to_body=lambda row: {"id": f"x_{row}"})
    assert len(body["data"]) == ids
    assert body["has_more"] is has_more
    assert body["first_id"] == ("x_0" if ids else None)
    assert body["last_id"] == (f"x_{ids - 1}" if ids else None)


# --- Ids ----------------------------------------------------------------------------------------
def test_ids_sort_by_their_time() -> None:
    made = [to_public_id("conv", new_uuid()) for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000


@given(value=st.uuids())
def test_a_public_id_leads_back(value: uuid.UUID) -> None:
    text = to_public_id("msg", value)
    assert from_public_id("msg", text) == value
    with pytest.raises(NotFound):
        from_public_id("conv", text)


@given(
    text=st.text(max_size=50) | st.text("0123456789abcdef-{}_ ", max_size=40).map("msg_".__add__)
)
def test_any_other_text_is_not_found(text: str) -> None:
    try:
        value = from_public_id("msg", text)
    except NotFound:
        return
    assert len(text) == 36
    assert value.hex == text[4:].lower()


# --- Cost ---------------------------------------------------------------------------------------
def lists_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the lists and mappings of a core schema whose items have a type."""
    if isinstance(schema, list | tuple):
        for item in schema:
            yield from lists_in(item)
    if not isinstance(schema, dict):
        return
    items = schema.get("items_schema") or schema.get("values_schema")
    if schema.get("type") in ("list", "dict") and items and items.get("type") != "any":
        yield schema
    for key, value in schema.items():
        if key != "metadata":
            yield from lists_in(value)


def request_models() -> list[type[BaseModel]]:
    """Return the models that clients' bodies are read into."""
    found: list[type[BaseModel]] = []
    waiting = [RequestModel, _Shape]
    while waiting:
        for model in waiting.pop().__subclasses__():
            if not model.__module__.startswith("tests."):
                found.append(model)
                waiting.append(model)
    return found


def test_every_list_of_a_body_ends_at_its_first_fault() -> None:
    models = request_models()
    assert {ChatCompletionRequest, ResponseRequest, JobCreate, BatchRequest} <= set(models)
    slow = [
        f"{model.__name__}: {found}"
        for model in models
        for found in lists_in(model.__pydantic_core_schema__)
        if not found.get("fail_fast")
    ]
    assert not slow


def test_a_body_of_faults_has_few() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [{}] * 1000}] * 1000}
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate(body)
    assert caught.value.error_count() < 5


def test_all_that_a_completion_holds_is_bounded(settings: Any) -> None:
    settings.MAX_CONTENT_PARTS = 3
    part = {"type": "text", "text": "x"}
    message = {"role": "user", "content": [part, part]}
    parse(ChatCompletionRequest, {"model": "m", "messages": [message]})
    with pytest.raises(InvalidRequest, match="MAX_CONTENT_PARTS"):
        parse(ChatCompletionRequest, {"model": "m", "messages": [message, message]})
    with pytest.raises(InvalidRequest, match="MAX_CONTENT_PARTS"):
        parse(ResponseRequest, {"model": "m", "input": [message_of_response()] * 4})
    settings.MAX_JSON_ITEMS = 100
    call = {"id": "c", "function": {"name": "f", "arguments": json.dumps({"a": [1] * 30})}}
    calls = {"role": "assistant", "content": "", "tool_calls": [call] * 2}
    parse(ChatCompletionRequest, {"model": "m", "messages": [calls]})
    with pytest.raises(InvalidRequest, match="MAX_JSON_ITEMS"):
        parse(ChatCompletionRequest, {"model": "m", "messages": [calls] * 2})


def message_of_response() -> dict[str, Any]:
    """Return a message of the Responses API, of one part."""
    return {"role": "user", "content": [{"type": "input_text", "text": "x"}]}
