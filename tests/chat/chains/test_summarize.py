"""Documents of any length, summarized part by part."""

from __future__ import annotations

import re
import threading

import httpx
import pytest

from tests.provider import Provider
from tests.stack_plugin import BASE_DIR
from tests.support.calls import chat_body, error_of, read_events

# Real, long, and free to copy: the project's own licence.
LICENSE = (BASE_DIR / "LICENSE").read_text()
# SUMMARIZE_PART_CHARS of the stack is its default.
PART_CHARS = 6000


def paragraphs(count: int, word: str) -> str:
    """Return a text of so many parts."""
    sentence = f"The {word} flows down the mill race and turns the wheel. "
    paragraph = sentence * (PART_CHARS // len(sentence))
    return "\n\n".join([paragraph] * count)


@pytest.mark.timeout(240)
def test_a_long_real_document_is_summarized_by_the_local_model(http: httpx.Client) -> None:
    text = LICENSE[:7_500]
    response = http.post(
        "/chains/summarize-real/invoke", json={"input": {"text": text}}, timeout=210
    )
    assert response.status_code == 200, response.text
    summary = response.json()["output"]
    assert isinstance(summary, str)
    assert 0 < len(summary) < len(text) / 5


def test_every_part_is_summarized_and_then_the_document(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    text = paragraphs(5, marker)
    response = http.post("/chains/summarize-quick/invoke", json={"input": {"text": text}})
    assert response.json()["output"] == "A short summary."
    parts = provider.calls_of(marker)
    assert len(parts) == 5
    sent = "".join(re.sub(r"\s", "", call.text.partition("\n\n")[2]) for call in parts)
    # Nothing of the document is lost between the parts.
    assert len(sent) == len(re.sub(r"\s", "", text))
    for call in parts:
        assert len(call.text) < PART_CHARS + 200
        limit = call.body.get("max_tokens") or call.body.get("max_completion_tokens")
        assert limit == PART_CHARS // 16
    last = provider.calls[-1]
    assert last.text.endswith("\n\n".join(["A short summary."] * 5))


def test_a_short_document_is_summarized_by_one_call(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    response = http.post("/chains/summarize-quick/invoke", json={"input": {"text": marker}})
    assert response.status_code == 200
    assert len(provider.calls_of(marker)) == 1


def test_a_summary_is_to_be_had_as_a_chat_too(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    response = http.post("/v1/chat/completions", json=chat_body("summarize-quick", marker))
    assert response.json()["choices"][0]["message"]["content"] == "A short summary."
    assert len(provider.calls_of(marker)) == 1


def test_a_streamed_summary_counts_its_parts_while_it_is_made(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = {"input": {"text": paragraphs(6, marker)}}
    with http.stream("POST", "/chains/summarize-slow/stream", json=body) as response:
        events = list(read_events(response))
    progress = [text for name, text in events if name == ":"]
    counts = [re.fullmatch(r"progress (\d+)/(\d+)", text) for text in progress]
    assert len(counts) >= 2
    done = [int(match[1]) for match in counts if match]
    assert {match[2] for match in counts if match} == {"6"}
    assert len(done) == len(counts)
    assert done == sorted(done)
    assert done[0] < 6
    assert "".join(data for name, data in events if name == "data") == "A short summary."
    assert events[-1][0] != "error"


def test_so_many_parts_at_a_time_and_no_more(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = {"input": {"text": paragraphs(6, marker)}}
    thread = threading.Thread(
        target=lambda: http.post("/chains/summarize-slow/invoke", json=body, timeout=30)
    )
    thread.start()
    provider.wait_for_call(marker)
    most = 0
    while thread.is_alive():
        most = max(most, sum(not call.is_over for call in provider.calls_of(marker)))
        thread.join(0.05)
    # SUMMARIZE_CONCURRENCY of the stack is its default.
    assert most == 4


def test_nothing_to_summarize_is_the_clients_fault(http: httpx.Client) -> None:
    for text in ("", " \n\t "):
        response = http.post("/chains/summarize/invoke", json={"input": {"text": text}})
        assert error_of(response, 400, None)["param"] == "input.text"
        response = http.post("/chains/summarize/stream", json={"input": {"text": text}})
        error_of(response, 400, None)
    for value in ({}, {"text": 1}, {"text": None}, "text", None):
        response = http.post("/chains/summarize/invoke", json={"input": value})
        error_of(response, 422, "invalid_input")
    response = http.post("/v1/chat/completions", json=chat_body("summarize", " "))
    error_of(response, 400, None)


def test_summaries_that_get_no_shorter_end_and_do_not_go_round_for_ever(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = {"input": {"text": paragraphs(3, marker)}}
    response = http.post("/chains/summarize-never-shorter/invoke", json=body)
    error_of(response, 500, "chain_error")
    assert len(provider.calls_of(marker)) == 3
    assert marker not in response.text


def test_a_failing_part_fails_the_summary_with_the_providers_status(
    http: httpx.Client, marker: str
) -> None:
    body = {"input": {"text": paragraphs(3, marker)}}
    response = http.post("/chains/summarize-failing/invoke", json=body)
    error_of(response, 502, "provider_error")
