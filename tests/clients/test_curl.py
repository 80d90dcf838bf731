"""curl, as the documents show it."""

from __future__ import annotations

import json
import shutil
import subprocess

from tests.clients.conftest import require
from tests.stack_plugin import EmbeddedStack
from tests.support.waiting import slack


def curl(stack: EmbeddedStack, path: str, *options: str, key: str | None = None) -> str:
    """Return what curl prints: the body, and the status after it."""
    program = shutil.which("curl")
    require(program is not None, "no curl")
    done = subprocess.run(
        [
            str(program),
            *("--silent", "--show-error", "--no-buffer", "--noproxy", "*"),
            *("--header", f"Authorization: Bearer {key or stack.demo_key}"),
            *("--write-out", "\n%{http_code}"),
            *options,
            f"{stack.url}/v1/{path}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=slack(30),
    )
    return done.stdout


def post(stack: EmbeddedStack, path: str, body: object, **more: str) -> tuple[str, str]:
    """Return the body and the status of a request with a JSON body."""
    text, _, status = curl(stack, path, "--json", json.dumps(body), **more).rpartition("\n")
    return text, status


def chat_body(model: str, **more: object) -> dict[str, object]:
    """Return the body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}


def test_curl_lists_models_and_chats(stack: EmbeddedStack, chains: None) -> None:
    models, _, status = curl(stack, "models").rpartition("\n")
    assert status == "200"
    assert "provider-hello" in {model["id"] for model in json.loads(models)["data"]}
    body, status = post(stack, "chat/completions", chat_body("provider-hello"))
    assert status == "200"
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello there."


def test_curl_prints_a_stream_to_its_end(stack: EmbeddedStack, chains: None) -> None:
    body, status = post(stack, "chat/completions", chat_body("provider-hello", stream=True))
    assert status == "200"
    assert body.rstrip().endswith("data: [DONE]")
    body, status = post(
        stack, "responses", {"model": "provider-hello", "input": "Hi", "stream": True}
    )
    assert status == "200"
    assert "event: response.completed" in body


def test_curl_prints_errors(stack: EmbeddedStack, chains: None) -> None:
    body, status = post(stack, "chat/completions", chat_body("provider-hello"), key="wrong")
    assert (status, json.loads(body)["error"]["type"]) == ("401", "authentication_error")
    body, status = post(stack, "chat/completions", chat_body("absent"))
    assert (status, json.loads(body)["error"]["param"]) == ("404", "model")
    over = chat_body("provider-hello", max_tokens=10**9)
    body, status = post(stack, "chat/completions", over)
    assert (status, json.loads(body)["error"]["param"]) == ("400", "max_tokens")
