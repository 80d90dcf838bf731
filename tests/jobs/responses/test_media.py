"""Images, sounds and files in a response's input, through OpenAI's own SDK to the provider."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import openai
import pytest

from tests.support.calls import error_of

DATA = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
IMAGE_URL = f"data:image/png;base64,{DATA}"
FILE_URL = f"data:application/pdf;base64,{DATA}"
TEXT = {"type": "input_text", "text": "What is this?"}
IMAGE = {"type": "input_image", "image_url": IMAGE_URL}
LINK = {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}
SOUND = {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}
FILE = {"type": "input_file", "file_data": FILE_URL, "filename": "a.pdf", "file_id": None}
SENT = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": IMAGE_URL}},
    {
        "type": "image_url",
        "image_url": {"url": "https://example.org/a.png", "detail": "low"},
    },
    SOUND,
    {"type": "file", "file": {"file_data": FILE_URL, "filename": "a.pdf"}},
]


def test_parts_reach_the_provider_as_chat_completions_have_them(sdk: openai.OpenAI) -> None:
    items: Any = [{"role": "user", "content": [TEXT, IMAGE, LINK, SOUND, FILE]}]
    response = sdk.responses.create(model="provider-echo", input=items)
    assert json.loads(response.output_text)["messages"][-1]["content"] == SENT


def test_a_stream_takes_an_image_without_a_text(sdk: openai.OpenAI) -> None:
    items: Any = [{"role": "user", "content": [IMAGE]}]
    with sdk.responses.create(model="provider-echo", input=items, stream=True) as events:
        text = "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )
    assert json.loads(text)["messages"][-1]["content"] == SENT[1:2]


def test_a_job_takes_the_parts_of_chat_completions(http: httpx.Client) -> None:
    body = {"chain": "provider-echo", "input": {"messages": [{"role": "user", "content": SENT}]}}
    job = http.post("/v1/jobs", json=body)
    assert job.status_code == 202, job.text
    events = http.get(f"/v1/jobs/{job.json()['id']}/events")
    assert events.status_code == 200
    done = http.get(f"/v1/jobs/{job.json()['id']}").json()
    assert done["status"] == "succeeded", done["error"]
    assert json.loads(done["output"]["content"])["messages"][-1]["content"] == SENT


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_image", "image_url": "ftp://example.org/" + DATA}, "image_url"),
        ({"type": "input_image", "image_url": {"url": IMAGE_URL}}, "image_url"),
        ({"type": "input_image", "file_id": "file-1"}, "image_url"),
        ({**IMAGE, "file_id": "file-1"}, "file_id"),
        ({**IMAGE, "detail": "x"}, "detail"),
        ({"type": "input_file", "file_data": DATA}, "file_data"),
        ({"type": "input_file", "file_url": "https://example.org/"}, "file_data"),
        ({**FILE, "file_data": FILE_URL + "!"}, "file_data"),
        ({**FILE, "file_data": FILE_URL[:29] + "QUJD" * 50_000 + "!"}, "file_data"),
        ({**SOUND, "input_audio": {"data": "!", "format": "wav"}}, "input_audio.data"),
        ({"type": "image_url", "image_url": {"url": IMAGE_URL}}, "type"),
    ],
)
def test_a_wrong_part_is_refused_by_its_path(
    http: httpx.Client, part: dict[str, Any], param: str
) -> None:
    items = [{"role": "user", "content": "Hi"}, {"role": "user", "content": [TEXT, part]}]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == f"input.1.content.1.{param}"
    assert DATA[:20] not in answer.text
    if param == "type":
        assert "input_text" in error["message"]
        assert "input_image, input_audio or input_file" in error["message"]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_the_user_sends_other_parts(http: httpx.Client, role: str) -> None:
    items = [{"role": role, "content": [TEXT, IMAGE]}]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    assert error_of(answer, 400, None)["param"] == "input.0.content.1.type"


def test_a_tool_has_no_images(http: httpx.Client) -> None:
    items: list[dict[str, Any]] = [
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": [IMAGE]},
    ]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    assert error_of(answer, 400, None)["param"] == "input.1.output.0.type"


def test_limits_are_those_of_chat_completions(http: httpx.Client) -> None:
    items = [{"role": "user", "content": [IMAGE] * 51}]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    assert error_of(answer, 400, "too_much_media")["param"] == "input.0.content.50"
    messages = [{"role": "human", "content": [SENT[1]] * 51}]
    job = {"chain": "provider-hello", "input": {"messages": messages}}
    answer = http.post("/v1/jobs", json=job)
    assert answer.status_code in (400, 422), answer.text
    large = {"type": "input_image", "image_url": "data:image/png;base64," + "QUJD" * 900_000}
    items = [{"role": "user", "content": [large]}]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed", answer.text


def test_a_chain_of_text_refuses_them(http: httpx.Client) -> None:
    items: list[dict[str, Any]] = [{"role": "user", "content": [TEXT, IMAGE]}]
    answer = http.post("/v1/responses", json={"model": "summarize-quick", "input": items})
    assert error_of(answer, 400, "unsupported_content")["param"] == "input.0.content.1"
    items.append({"role": "user", "content": "Hi"})
    answer = http.post("/v1/responses", json={"model": "summarize-quick", "input": items})
    assert answer.status_code == 200, answer.text
