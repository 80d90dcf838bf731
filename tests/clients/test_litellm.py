"""LiteLLM as a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import RunClient
from tests.provider import USAGE, WORDS
from tests.stack_plugin import BASE_DIR

PYTHON = BASE_DIR / ".venv-peers" / "bin" / "python"
SCRIPT = Path(__file__).with_name("litellm_client.py")


def test_litellm_does_its_work(run_client: RunClient) -> None:
    # Its packages are those of the bench, which CI does not install.
    if not PYTHON.with_name("litellm").exists():
        pytest.skip("no LiteLLM in .venv-peers; make bench installs it")
    steps = run_client([str(PYTHON), str(SCRIPT)])
    assert steps["chat"] == ["Hello there.", USAGE["total_tokens"]]
    assert steps["stream with usage"][0] == len(WORDS)
    assert USAGE["total_tokens"] in steps["stream with usage"][1]
    assert steps["tools"] == [["Oslo", "Rome"], "It is sunny."]
    assert steps["structured output"] == {"city": "Oslo"}
    assert steps["responses"] == "Hello there."
    assert "max_tokens" in steps["errors"]
    assert steps["retry after 429"] == "Hello there."
