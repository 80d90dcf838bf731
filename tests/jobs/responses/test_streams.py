"""Streams of the Responses API as OpenAI's own SDK sees them."""

from __future__ import annotations

import time

import httpx
import openai
import pytest

from tests.jobs.responses.responses import WHOLE
from tests.support.calls import read_events


# --- Streams ------------------------------------------------------------------------------------
@pytest.mark.parametrize("background", [False, True])
def test_a_stream_has_the_answer_as_it_comes(sdk: openai.OpenAI, background: bool) -> None:
    with sdk.responses.stream(
        model="provider-slow-stream", input="Hi", background=background
    ) as stream:
        times = []
        numbers = []
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                times.append(time.monotonic())
        final = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert final.output_text == WHOLE
    assert len(times) > 1
    assert times[-1] - times[0] > 0.3
    assert sdk.responses.retrieve(final.id).output_text == WHOLE


def test_a_stream_goes_on_after_any_event(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="provider-slow-stream", input="Hi", background=True)
    begun = []
    with sdk.responses.retrieve(response.id, stream=True) as stream:
        for event in stream:
            begun.append(event)
            if event.type == "response.output_text.delta":
                break
    rest = list(
        sdk.responses.retrieve(response.id, stream=True, starting_after=begun[-1].sequence_number)
    )
    whole = list(sdk.responses.retrieve(response.id, stream=True))
    assert [*begun, *rest] == whole
    for after in range(len(whole)):
        tail = list(sdk.responses.retrieve(response.id, stream=True, starting_after=after))
        assert tail == whole[after + 1 :]


def test_a_silent_stream_has_heartbeats(http: httpx.Client) -> None:
    body = {"model": "provider-slow-start", "input": "Hi", "stream": True}
    with http.stream("POST", "/v1/responses", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(read_events(response))
    assert (":", "heartbeat") in events
    named = [(name, data) for name, data in events if name != ":"]
    assert all(name == data["type"] for name, data in named)
    assert named[-1][0] == "response.completed"


def test_a_stream_ends_with_the_failure(sdk: openai.OpenAI) -> None:
    events = list(sdk.responses.create(model="provider-too-long", input="Hi", stream=True))
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "invalid_prompt"


def test_text_that_a_later_attempt_repeats_is_sent_once(sdk: openai.OpenAI) -> None:
    events = list(sdk.responses.create(model="provider-reset-mid-stream", input="Hi", stream=True))
    kinds = [event.type for event in events]
    assert kinds.count("response.in_progress") > 1
    assert kinds.count("response.output_item.added") <= 1
    assert kinds[-1] == "response.failed"
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert WHOLE.startswith("".join(said))
    created = events[0]
    assert created.type == "response.created"
    again = sdk.responses.retrieve(created.response.id, stream=True, starting_after=3)
    assert list(again) == events[4:]


def test_the_stream_of_a_retried_job_goes_on(sdk: openai.OpenAI, http: httpx.Client) -> None:
    made = sdk.responses.create(model="provider-too-long", input="Hi", background=True)
    first = list(sdk.responses.retrieve(made.id, stream=True))
    assert first[-1].type == "response.failed"
    answer = http.post(f"/v1/jobs/{made.id.replace('resp_', 'job_')}/retry")
    assert answer.status_code == 202
    whole = list(sdk.responses.retrieve(made.id, stream=True))
    # What was the end is no longer; its number is left out.
    assert whole[: len(first) - 1] == first[:-1]
    rest = whole[len(first) - 1 :]
    number = first[-1].sequence_number
    assert [event.sequence_number for event in rest] == [number + 1, number + 2, number + 3]
    assert [event.type for event in rest] == [
        "response.queued",
        "response.in_progress",
        "response.failed",
    ]
    assert list(sdk.responses.retrieve(made.id, stream=True, starting_after=number)) == rest
