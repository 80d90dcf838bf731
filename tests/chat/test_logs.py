"""No log line holds what clients sent, what models answered, or a key."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.provider import SECRET, Provider
from tests.provider.behaviours import BEHAVIOURS
from tests.stack_plugin import STACK_ENV
from tests.support.documents import pdf
from tests.support.own_stack import OwnStack
from tests.support.waiting import slack

# In every text that a client sends here. The provider sends it back, in answers and in errors.
MARK = "zQprivate8"
MEDIA = base64.b64encode(b"\x89PNG" + MARK.encode() * 40).decode()
WRONG_KEY = "hr_" + MARK * 4
ARGUMENTS = ("--no-llm", "--nodes=1", "--workers=1", "--replicas=0")
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MEDIA}"}}
CHAT = "/v1/chat/completions"
# They take their time, or a connection with them.
SLOW = {
    "hang",
    "stall-mid-stream",
    "slow-stream",
    "slow-summary",
    "fail-429-for-long",
    "slow-start",
}
MODELS = [
    *("echo", "hello", "leaky-400", "leaky-401", "fail-429", "fail-500", "too-long", "bad-json"),
    *("no-choices", "error-mid-stream", "reset-mid-stream", "cut-mid-stream", "tool-call", "nul"),
    "echoes-prompt",
]
RUNNABLES = ("echo", "broken", "fails_later", "divide", "no_json", "quotes_input", "typed")


@pytest.fixture(scope="module")
def logged(make_stack: Callable[..., OwnStack], provider: Provider) -> OwnStack:
    """A stack that logs every request, and has chains that fail in each way."""
    own = make_stack(*ARGUMENTS, env={**STACK_ENV, "WEB_ACCESS_LOG": "true"})
    own.start()
    for name in MODELS:
        assert name in BEHAVIOURS
        _add(own, f"at-{name}", "assistant", f"openai:{name}", provider)
    for name in RUNNABLES:
        _add(own, name, name, "openai:hello", provider)
    return own


def _add(own: OwnStack, slug: str, runnable: str, model: str, provider: Provider) -> None:
    done = own.run(
        *("chains", "add", slug, "--runnable", runnable),
        *(f"--model={model}", f"--base-url={provider.base_url}"),
    )
    assert done.returncode == 0, done.stderr


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the address and the options of each request."""
    content = [{"type": "text", "text": MARK}, IMAGE]
    for model in MODELS:
        for stream in (False, True):
            body = {"model": f"at-{model}", "messages": [{"role": "user", "content": content}]}
            yield CHAT, {"json": {**body, "stream": stream}}
        yield "/v1/responses", {"json": {"model": f"at-{model}", "input": MARK}}
    for name in RUNNABLES:
        for value in (MARK, {"text": MARK}, {"number": MARK, "items": [MARK]}):
            yield f"/chains/{name}/invoke", {"json": {"input": value}}
            yield f"/chains/{name}/stream", {"json": {"input": value}}
            yield "/v1/jobs", {"json": {"chain": name, "input": value, "max_attempts": 1}}
    bodies: tuple[dict[str, Any], ...] = (
        {MARK: 1},
        {"model": MARK, "messages": [{"role": "user", "content": MARK}]},
        {"model": MARK, "messages": MARK},
        {"model": "echo", "messages": [{"role": MARK, "content": MARK}]},
        {"model": "echo", "messages": [{"role": "user", "content": {MARK: MARK}}]},
        {"model": "echo", "messages": [{"role": "user", "content": [{"type": MARK}]}]},
        {"model": "echo", "messages": [{"role": "user", "content": MARK}], "temperature": MARK},
        {"model": "echo", "messages": [{"role": "user", "content": MARK}], "tools": [MARK]},
        {"model": "echo", "messages": [{"role": "user", "content": [{**IMAGE, MARK: 1}]}]},
        {"model": "echo", "input": [{"role": "user", "content": [{"type": MARK}]}]},
        {"chain": MARK, "input": MARK, "webhook_url": f"http://127.0.0.1/{MARK}"},
    )
    for body in bodies:
        for path in (CHAT, "/v1/responses", "/v1/jobs", "/v1/conversations", "/chains/echo/invoke"):
            yield path, {"json": body}
    yield CHAT, {"content": f'{{"model": "{MARK}'.encode()}
    yield CHAT, {"content": b"\xff" + MARK.encode()}
    yield CHAT, {"json": {}, "headers": {"Authorization": f"Bearer {WRONG_KEY}"}}
    yield CHAT, {"json": {}, "headers": {"Authorization": f"Basic {WRONG_KEY}"}}
    yield CHAT, {"json": {}, "headers": {"Idempotency-Key": MARK, "X-Request-Id": "a b"}}
    for data in (pdf(1), b"%PDF-1.4 " + MARK.encode(), MARK.encode(), b"\0" + MARK.encode()):
        form = {"chain": "echo", "metadata": f'{{"{MARK}": "{MARK}"}}'}
        yield "/v1/jobs", {"data": form, "files": {"file": (f"{MARK}.pdf", data)}}


def test_nothing_that_a_client_sent_is_logged(logged: OwnStack) -> None:
    statuses = set()
    key = logged.demo_key
    with httpx.Client(
        base_url=logged.url, headers={"Authorization": f"Bearer {key}"}, timeout=60
    ) as client:
        for path, options in requests():
            statuses.add(client.post(path, **options).status_code)
        deadline = time.monotonic() + slack(60)
        while client.get("/v1/jobs?status=queued").json()["data"] and time.monotonic() < deadline:
            time.sleep(0.5)
        conversation = client.post("/v1/conversations", json={"chain": "at-echo"}).json()["id"]
        client.post(f"/v1/conversations/{conversation}/messages", json={"content": MARK})
    assert {200, 202, 400, 401, 404, 422, 500, 502} <= statuses
    logs = {
        path: path.read_text(errors="replace") for path in Path(logged.state_dir).rglob("*.log")
    }
    lines = [line for text in logs.values() for line in text.splitlines()]
    assert any("POST /v1/chat/completions" in line for line in lines), "there is no access log"
    assert any("chain broken failed" in line for line in lines), "no failure was logged"
    for secret in (MARK, MEDIA[8:40], SECRET, key):
        found = [
            f"{path.name}: {line[:300]}"
            for path, text in logs.items()
            for line in text.splitlines()
            if secret in line
        ]
        assert found == []
