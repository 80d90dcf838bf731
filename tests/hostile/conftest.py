"""A stack of its own for hostile requests: two nodes, a worker, two accounts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.jobs.notifications.receivers import Receiver, endless_continue
from tests.provider import Provider
from tests.support.calls import client_with, manage
from tests.support.own_stack import OwnStack
from tests.support.waiting import slack

ENV = {
    "CHAIN_RUNNABLES": "echo=tests.chains.echo",
    "SUMMARIZE_CONCURRENCY": "2",
    # A receiver of the tests is on this machine.
    "WEBHOOK_ALLOW_PRIVATE": "true",
    # The floods share the processors with the nodes, which may be late for that alone.
    "PROXY_FROZEN_SECONDS": str(int(slack(5))),
}
ARGUMENTS = ("--nodes=2", "--workers=1", "--replicas=0", "--no-llm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, so that `make test` leaves it out."""
    for item in items:
        if "tests/hostile/" in str(item.path):
            item.add_marker(pytest.mark.faults)


@dataclass(frozen=True)
class Hostile:
    """The stack, the attacker's client and another account's."""

    stack: OwnStack
    attacker: httpx.Client
    other: httpx.Client
    # A receiver of webhooks whose answers never end.
    endless: Receiver
    # The models of the chain `digest`.
    provider: Provider


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """The running stack; an idle one would cost the files after it a seventh of a processor."""
    stack = OwnStack(Path(tmp_path_factory.mktemp("hostile")), arguments=ARGUMENTS, env=ENV)
    with Provider().running() as provider, Receiver(endless_continue) as endless:
        stack.start()
        try:
            model = ("--model=openai:short-summary", f"--base-url={provider.base_url}")
            for slug, runnable in (("echo", "echo"), ("digest", "summarize")):
                made = stack.run("chains", "add", slug, "--runnable", runnable, *model)
                assert made.returncode == 0, made.stderr
            keys = [
                json.loads(
                    manage(stack, "apikey", "create", "--name", name, "--account", name, "--json")
                )["key"]
                for name in ("attacker", "other")
            ]
            with client_with(stack, keys[0]) as attacker, client_with(stack, keys[1]) as other:
                yield Hostile(stack, attacker, other, endless, provider)
        finally:
            stack.stop()
