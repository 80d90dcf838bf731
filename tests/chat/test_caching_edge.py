"""The cache's parts within a node's process: what the edge remembers, and streams nobody reads."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest

from access.services import create_key
from chat.caching.edge import EdgeCache
from chat.caching.plan import Plan
from chat.caching.streams import record
from chat.models import Chain
from chat.run import Run
from chat.sse import Events
from scaling.response_cache.flights import Flights, Lead
from scaling.response_cache.policy import CachePolicy
from tests.calls import chat_body


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
def test_the_edge_remembers_so_many_requests_and_no_more(settings: Any, mode: str) -> None:
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
        edge(environ(key, chat_body(slug, f"question {number}")), lambda *_: None)
        sizes.append(len(edge._known))
    # All of it reached Django as it was sent.
    assert passed_on == [f"question {number}" for number in range(300)]
    assert sizes[:50] == list(range(1, 51))
    assert max(sizes) == 50


@pytest.fixture
def lead() -> Lead:
    made = Flights().try_lead(f"stream:{uuid.uuid4().hex}")
    assert made is not None
    assert made.token
    return made


def events() -> Events:
    yield b"data: 1\n\n"
    yield b"data: 2\n\n"
    return b"data: [DONE]\n\n"


def recorded(lead: Lead) -> Events:
    plan = Plan(chain="test", policy=CachePolicy(), key=lead.key)
    run = Run(timeout_seconds=10, options={})
    return record(events(), lead, plan, run, closing=b"data: [DONE]\n\n", renewed=lambda body: ())


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_stream_that_is_left_ends_its_lead_also_when_nobody_read_it(
    lead: Lead, read: int
) -> None:
    stream = recorded(lead)
    for _ in range(read):
        next(stream)
    assert Flights().try_lead(lead.key) is None
    stream.close()
    assert lead.wait(0)
    assert lead.entry is None
    again = Flights().try_lead(lead.key)
    assert again is not None
    again.abandon()


def test_a_recorded_stream_is_what_was_sent(lead: Lead) -> None:
    stream, sent = recorded(lead), []
    try:
        while True:
            sent.append(next(stream))
    except StopIteration as end:
        sent.append(end.value)
    assert sent == [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
    assert lead.entry is not None
    assert lead.entry.body == b"".join(sent)
