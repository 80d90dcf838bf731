"""What the provider's benchmarks start: the mock, Headrace with it, and the peers with it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.servers import ROOT, Headrace, free_port, headrace, process, wait_until_answers
from loadtest.settings import QUESTION

CHAT = "/v1/chat/completions"
MODEL = "provider-chat"
LITELLM_KEY = "sk-litellm"
# Peers let requests wait as long as they must; so does a node then.
NEVER_REFUSES = {"OVERLOAD_DELAY_SECONDS": "0"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to be measured: where it answers, what it takes, and the processes it has."""

    url: str
    body: Callable[[str, bool], dict[str, Any]]
    key: str
    pids: Sequence[int]
    # LangServe streams at another address.
    stream_url: str = ""

    def address(self, *, stream: bool) -> str:
        """Return where a whole or a streamed answer is requested."""
        return self.stream_url if stream and self.stream_url else self.url


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A running mock: the base URL that clients are given, and its process."""

    url: str
    pid: int
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def provider(
    *, first_token_seconds: float = 0.0, tokens_per_second: float = 0.0, tokens: int = 100
) -> Iterator[Provider]:
    """Run the mock provider in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "loadtest.provider.mock", f"--port={port}"]
    command += [f"--first-token-seconds={first_token_seconds}", f"--tokens={tokens}"]
    command += [f"--tokens-per-second={tokens_per_second}"]
    url = f"http://127.0.0.1:{port}/v1"
    environment = {"LLM_MODEL": "openai:bench", "LLM_BASE_URL": url, "LLM_API_KEY": "none"}
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        log = Path(name) / "provider.log"
        with process(command, dict(os.environ), log) as running:
            wait_until_answers(url, log)
            yield Provider(url=url, pid=running.pid, environment=environment)


@contextmanager
def headrace_with(
    mock: Provider, *, nodes: int = 1, workers: int = 0, env: Mapping[str, str] = {}
) -> Iterator[Headrace]:
    """Run Headrace with `provider-chat`, the built-in assistant with the mock as its model."""
    with headrace(nodes=nodes, workers=workers, env={**mock.environment, **env}) as ours:
        yield ours


def node_of(ours: Headrace) -> Target:
    """Return a stack's first node."""
    node = ours.nodes[0]
    url = f"http://{node['address']}{CHAT}"
    return Target(url=url, body=chat_body, key=ours.key, pids=[node["pid"]])


def proxy_of(ours: Headrace) -> Target:
    """Return a stack behind HAProxy, with the processes of nodes and proxy."""
    pids = [node["pid"] for node in ours.nodes] + [ours.part("haproxy")["pid"]]
    return Target(url=f"{ours.url}{CHAT}", body=chat_body, key=ours.key, pids=pids)


@contextmanager
def langserve_with(mock: Provider) -> Iterator[Target]:
    """Run LangServe with ChatOpenAI on one uvicorn worker."""
    port = free_port()
    python = str(ROOT / ".venv-peers" / "bin" / "python")
    command = [python, "-m", "uvicorn", "loadtest.peers.langserve_openai:app"]
    command += ["--host=127.0.0.1", f"--port={port}", "--log-level=warning", "--no-access-log"]
    url = f"http://127.0.0.1:{port}"
    with _peer(command, {"MOCK_URL": mock.url}, f"{url}/openapi.json") as pid:
        yield Target(
            url=f"{url}/chat/invoke",
            stream_url=f"{url}/chat/stream",
            body=lambda text, _: {"input": {"text": text}},
            key="",
            pids=[pid],
        )


@contextmanager
def litellm_with(mock: Provider) -> Iterator[Target]:
    """Run LiteLLM's proxy on one worker, without its cache."""
    port = free_port()
    config = ROOT / "loadtest" / "peers" / "litellm_provider.yaml"
    command = [str(ROOT / ".venv-peers" / "bin" / "litellm"), f"--config={config}"]
    command += ["--host=127.0.0.1", f"--port={port}"]
    environment = {"MOCK_URL": mock.url, "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    url = f"http://127.0.0.1:{port}"
    with _peer(command, environment, f"{url}/health/liveliness") as pid:
        yield Target(url=f"{url}{CHAT}", body=chat_body, key=LITELLM_KEY, pids=[pid])


@contextmanager
def _peer(command: list[str], environment: Mapping[str, str], ready_url: str) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        log = Path(name) / "peer.log"
        with process(command, {**os.environ, **environment}, log) as running:
            wait_until_answers(ready_url, log)
            yield running.pid


def chat_body(text: str, stream: bool) -> dict[str, Any]:
    """Return a chat completion's request."""
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, **({"stream": True} if stream else {})}


def question(number: int = 0) -> str:
    """Return a question; each number has another."""
    return f"{QUESTION} {number}" if number else QUESTION
