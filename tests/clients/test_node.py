"""Clients for Node, each in a script that does a day's work."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.clients.conftest import RunClient, require
from tests.provider import Provider

FOLDER = Path(__file__).resolve().parent
# The steps that every script has.
STEPS = {"chat", "stream with usage", "errors", "aborted stream", "retry after 429"}


@pytest.mark.parametrize("name", ["openai", "langchain", "ai"])
def test_a_client_for_node_does_its_work(
    run_client: RunClient, provider: Provider, marker: str, name: str
) -> None:
    node = shutil.which("node")
    installed = FOLDER / "node_modules" / ".installed"
    require(bool(node) and installed.exists(), "no clients for Node; make install-clients")
    steps = run_client([str(node), str(FOLDER / f"{name}.mjs")])
    assert steps.keys() >= STEPS
    # An aborted stream ends at the provider too.
    call = provider.wait_for_call(marker)
    provider.seconds_until_hung_up(call, since=time.monotonic())
