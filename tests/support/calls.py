"""Means of tests to call the stack, to run its commands, and to read what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from tests.stack_plugin import BASE_DIR, EmbeddedStack


def client_with(stack: EmbeddedStack, key: str) -> httpx.Client:
    """Return an HTTP client with a key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=60)


def manage(stack: EmbeddedStack, *arguments: str) -> str:
    """Run a command with all of the stack's settings; return what it printed."""
    done = run_manage(stack, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_manage(
    stack: EmbeddedStack, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with all of the stack's settings and some others."""
    if env is None:
        return stack.run(*arguments)
    return subprocess.run(
        [sys.executable, str(BASE_DIR / "manage.py"), *arguments],
        env={**stack.env, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def chat_body(model: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    """Return the body of a completion with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def read_events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield the name and data of each server-sent event; a comment's name is ":"."""
    name = ""
    for line in response.iter_lines():
        if line.startswith(":"):
            yield ":", line[1:].strip()
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield name, data if data == "[DONE]" else json.loads(data)
            name = ""


def error_of(response: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    """Return the error of a response after checking all that every error must have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert error["code"] == code, error
    return error


def logs(stack: EmbeddedStack) -> str:
    """Return everything that the stack's parts have logged."""
    files = (stack.state_dir / "logs").glob("*")
    return "".join(file.read_text(errors="replace") for file in files if file.is_file())
