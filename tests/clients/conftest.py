"""Clients' scripts against the stack, each with a key of its own that is soon refused."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.stack_plugin import CLEAN_ENVIRONMENT, EmbeddedStack
from tests.support.calls import manage
from tests.support.waiting import slack

RunClient = Callable[[Sequence[str]], dict[str, Any]]
SECONDS = 60.0
# Twenty requests at once, then one each 3 s: longer than a client waits that ignores Retry-After.
MAKE_KEY = """
from access.services import create_key
print(create_key(name={name!r}, account_name={name!r}, requests_per_minute=20).secret)
"""


@pytest.fixture
def limited_key(stack: EmbeddedStack) -> str:
    """A key whose rate is used up by some requests."""
    name = f"limited client {uuid.uuid4().hex}"
    return manage(stack, "shell", "--no-imports", "-c", MAKE_KEY.format(name=name)).strip()


@pytest.fixture
def run_client(stack: EmbeddedStack, chains: None, limited_key: str, marker: str) -> RunClient:
    """Return a function that runs a script and returns each step's result by its name."""

    def run(command: Sequence[str]) -> dict[str, Any]:
        proxies = {"http_proxy", "https_proxy", "all_proxy"}
        env = {
            name: value for name, value in CLEAN_ENVIRONMENT.items() if name.lower() not in proxies
        }
        done = subprocess.run(
            command,
            env={
                **env,
                # LiteLLM would download its table of prices.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "CLIENT_BASE_URL": f"{stack.url}/v1",
                "CLIENT_API_KEY": stack.demo_key,
                "CLIENT_LIMITED_KEY": limited_key,
                "CLIENT_MARKER": marker,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=slack(SECONDS),
        )
        assert done.returncode == 0, f"{done.stderr}\nDone before:\n{done.stdout}"
        steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return {step["step"]: step["result"] for step in steps}

    return run


def require(is_installed: bool, reason: str) -> None:
    """Skip where something is absent; in CI only where .ci/run could not install it."""
    if is_installed:
        return
    if os.environ.get("CI") and not os.environ.get("HEADRACE_CLIENTS_ABSENT"):
        pytest.fail(reason)
    pytest.skip(reason)
