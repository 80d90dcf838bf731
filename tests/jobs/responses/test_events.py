"""A job's stored events as those of the Responses API, without any job."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai import omit

# The SDK parses events by these, and has no public names for them.
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from jobs.responses.bodies import message_id, message_item, refusal_part, text_part
from jobs.responses.events import TERMINAL, ResponseEventBuilder

DIGITS = uuid.UUID(int=7).hex
QUEUED: dict[str, Any] = {
    "id": f"resp_{DIGITS}",
    "object": "response",
    "created_at": 1,
    "status": "queued",
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
CALL = {
    "id": f"fc_{DIGITS}_0",
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
    "status": "completed",
}
Stored = tuple[str, dict[str, Any]]
RUNNING: Stored = ("status", {"status": "running"})
REQUEUED: Stored = ("status", {"status": "queued"})


def tokens(text: str) -> Stored:
    """Return a stored event of some text."""
    return "tokens", {"text": text}


def done(status: str, text: str | None = None, *calls: dict[str, Any], refusal: str = "") -> Stored:
    """Return a stored event of the end of a job with an output."""
    parts = [] if text is None else [text_part(text)]
    parts += [refusal_part(refusal)] if refusal else []
    items = [message_item(message_id(DIGITS), parts, status=status)] if parts else []
    return "done", {**QUEUED, "status": status, "output": [*items, *calls]}


def build(*stored: Stored) -> list[dict[str, Any]]:
    """Return the events that stored ones become."""
    builder = ResponseEventBuilder(QUEUED)
    events = list(builder.begin())
    for kind, data in stored:
        events += builder.end(data["status"], data) if kind == "done" else builder.add(kind, data)
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of events without their common prefix."""
    return [event["type"].removeprefix("response.") for event in events]


def texts(events: list[dict[str, Any]]) -> dict[int, str]:
    """Return what the deltas say, by output index."""
    found: dict[int, str] = {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            index = event["output_index"]
            found[index] = found.get(index, "") + event["delta"]
    return found


def test_a_job_that_succeeds_has_the_events_of_openais_response() -> None:
    events = build(RUNNING, tokens("Hel"), tokens("lo"), done("completed", "Hello"))
    assert kinds(events) == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(11))
    assert events[7]["text"] == "Hello"
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


def test_a_refusal_has_events_of_its_own() -> None:
    events = build(RUNNING, done("completed", refusal="I cannot."))
    assert kinds(events)[3:] == [
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert {event["content_index"] for event in events[4:8]} == {0}
    assert events[6]["refusal"] == "I cannot."
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


def test_a_refusal_after_text_is_the_second_part() -> None:
    events = build(RUNNING, tokens("Well. "), done("completed", "Well. ", refusal="No."))
    refused = next(event for event in events if event["type"] == "response.refusal.done")
    assert (refused["output_index"], refused["content_index"]) == (0, 1)
    assert events[-2]["item"]["content"] == [text_part("Well. "), refusal_part("No.")]


def test_a_refusal_replaces_the_text_of_an_earlier_attempt() -> None:
    events = build(RUNNING, tokens("Hel"), REQUEUED, RUNNING, done("completed", refusal="No."))
    items = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert [item["status"] for item in items] == ["incomplete", "completed"]
    assert events[-1]["response"]["output"] == items[1:]


def test_an_output_without_tokens_is_one_delta_at_the_end() -> None:
    events = build(RUNNING, done("completed", '{"a":1}'))
    assert texts(events) == {0: '{"a":1}'}
    assert kinds(events)[-1] == "completed"


def test_an_empty_answer_has_an_item_and_no_delta() -> None:
    events = build(RUNNING, done("completed", ""))
    assert texts(events) == {}
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_progress_has_no_number() -> None:
    progress = ("progress", {"completed": 1, "total": 2, "message": ""})
    assert build(RUNNING, progress, done("completed", "x")) == build(
        RUNNING, done("completed", "x")
    )


def test_an_attempt_that_repeats_the_text_goes_on_with_it() -> None:
    first = (RUNNING, tokens("Hello "), REQUEUED)
    events = build(
        *first, RUNNING, tokens("Hel"), tokens("lo world"), done("completed", "Hello world")
    )
    assert texts(events) == {0: "Hello world"}
    assert kinds(events).count("output_item.added") == 1


def test_an_attempt_with_another_text_replaces_the_item() -> None:
    events = build(
        RUNNING, tokens("Hello"), REQUEUED, RUNNING, tokens("Hi"), done("completed", "Hi")
    )
    assert texts(events) == {0: "Hello", 1: "Hi"}
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["status"] for item in items] == ["incomplete", "completed"]
    assert items[0]["id"] != items[1]["id"]
    assert events[-1]["response"]["output"] == [items[1]]


def test_an_attempt_that_stops_short_of_the_text_that_was_sent_replaces_the_item() -> None:
    events = build(
        RUNNING, tokens("Hello!"), REQUEUED, RUNNING, tokens("He"), done("completed", "He")
    )
    assert texts(events) == {0: "Hello!", 1: "He"}


def test_a_failure_closes_the_item_as_incomplete() -> None:
    events = build(RUNNING, tokens("Hel"), done("failed"))
    assert kinds(events)[-2:] == ["output_item.done", "failed"]
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["response"]["output"] == []


def test_a_cancelled_response_ends_as_incomplete_and_says_why() -> None:
    events = build(done("cancelled"))
    assert kinds(events) == ["created", "queued", "incomplete"]
    assert events[-1]["response"]["status"] == "cancelled"


def test_tool_calls_are_items_of_their_own() -> None:
    events = build(RUNNING, done("completed", None, CALL))
    assert kinds(events)[3:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1]["response"]["output"] == [CALL]


# --- Any job -------------------------------------------------------------------------------------
@st.composite
def stored_events(draw: st.DrawFn) -> list[Stored]:
    """Return the stored events of a job: attempts that fail, and an end."""
    words = st.lists(st.text("ab", max_size=3), max_size=4)
    stored: list[Stored] = []
    for _ in range(draw(st.integers(0, 3))):
        stored += [RUNNING, *map(tokens, draw(words))]
        # Staff or a client may have retried a failed job.
        stored += draw(st.sampled_from([[REQUEUED], [done("failed"), REQUEUED]]))
    last = draw(words)
    stored += [RUNNING, *map(tokens, last)]
    text = "".join(last) or draw(st.sampled_from(["", "{}"]))
    ends = [done("completed", text), done("incomplete", text), done("completed", text, CALL)]
    ends += [done("completed", words, CALL, refusal="no") for words in (text, None)]
    stored.append(draw(st.sampled_from([*ends, done("failed"), done("cancelled")])))
    return stored


@given(stored_events(), st.data())
def test_the_tail_after_any_number_is_the_tail_of_all_events(
    stored: list[Stored], data: st.DataObject
) -> None:
    events = build(*stored)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    # Events that were built before the later ones were stored do not change.
    cut = data.draw(st.integers(0, len(stored)))
    begun = build(*stored[:cut])
    assert events[: len(begun)] == begun


@given(stored_events())
def test_the_deltas_of_the_last_item_are_the_answer(stored: list[Stored]) -> None:
    events = build(*stored)
    final = events[-1]
    assert final["type"] in TERMINAL.values()
    messages = [item for item in final["response"]["output"] if item["type"] == "message"]
    if messages and messages[0]["content"][0]["type"] == "output_text":
        added = [e for e in events if e["type"] == "response.output_item.added"]
        index = next(e["output_index"] for e in added if e["item"]["id"] == messages[0]["id"])
        assert texts(events).get(index, "") == messages[0]["content"][0]["text"]


@given(stored_events())
def test_openais_own_accumulator_takes_every_stream(stored: list[Stored]) -> None:
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in build(*stored):
        read: Any = construct_type(value=event, type_=ResponseStreamEvent)
        assert read.type == event["type"]
        state.handle_event(read)


@given(stored_events())
def test_every_item_that_is_added_is_done_once(stored: list[Stored]) -> None:
    events = build(*stored)
    added = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    ended = [e["output_index"] for e in events if e["type"] == "response.output_item.done"]
    assert added == ended == list(range(len(added)))
