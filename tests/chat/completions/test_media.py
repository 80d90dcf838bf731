"""Images, sounds and files in messages, through OpenAI's own SDK to the provider."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import openai
import pytest

from tests.chat.echoes import echoed
from tests.support.calls import error_of

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
SOUND = {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}
FILE = {
    "type": "file",
    "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"},
}
TEXT = {"type": "text", "text": "What is this?"}


@pytest.mark.parametrize("chain", ["provider-echo", "prompted"])
def test_parts_reach_the_provider_as_they_came(sdk: openai.OpenAI, chain: str) -> None:
    parts = [TEXT, IMAGE, LINK, SOUND, FILE, TEXT]
    messages: Any = [{"role": "user", "content": parts}]
    body = echoed(sdk, chain, messages=messages)
    assert body["messages"][-1] == {"role": "user", "content": parts}


def test_a_stream_takes_parts_too(sdk: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [TEXT, IMAGE]}]
    with sdk.chat.completions.create(
        model="provider-hello", messages=messages, stream=True
    ) as chunks:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello there."


def test_a_cached_answer_is_that_of_the_same_image_alone(http: httpx.Client) -> None:
    other: dict[str, Any] = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{PNG[:-8]}"},
    }
    hits = []
    for image in (IMAGE, IMAGE, other):
        messages = [{"role": "user", "content": [TEXT, image]}]
        body = {"model": "cached", "messages": messages}
        response = http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        assert image["image_url"]["url"] in response.text
        hits.append("hit" in response.headers["cache-status"])
    assert hits == [False, True, False]


def test_a_chain_that_takes_text_refuses_other_parts_by_their_path(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": [TEXT, IMAGE]}]
    body = {"model": "summarize-quick", "messages": messages}
    response = http.post("/v1/chat/completions", json=body)
    error = error_of(response, 400, "unsupported_content")
    assert error["param"] == "messages.1.content.1"
