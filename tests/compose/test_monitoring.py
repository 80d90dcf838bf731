"""The profile `monitoring`: Prometheus finds every service, and the dashboard has data.

Grafana itself is not run, as nothing here can stand in for its image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.compose.conftest import Composed
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).resolve().parents[2]
# Prometheus resolves its targets every ten seconds, and scrapes them every ten.
SEEN_SECONDS = 90.0
ALL_UP = {("web", "up"), ("worker", "up"), ("haproxy", "up")}
ASK = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"


@pytest.fixture(scope="module")
def prometheus(composed: Composed) -> Iterator[Composed]:
    """The stack with Prometheus, which has seen every part."""
    # What never was has no series.
    with composed.client() as client:
        body = {"chain": "echo", "input": "Hello."}
        assert client.post("/v1/jobs", json=body).status_code == 202
        chat = {"model": "echo", "messages": [{"role": "user", "content": "Hello."}]}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
    composed.compose("--profile=monitoring", "up", "--detach", "prometheus")
    eventually(
        lambda: targets(composed) == ALL_UP,
        seconds=SEEN_SECONDS,
        what=lambda: f"all targets are up: {targets(composed)}",
        every_seconds=2,
    )
    yield composed
    composed.compose("--profile=monitoring", "rm", "--stop", "--force", "prometheus")


def ask(composed: Composed, path: str, **query: str) -> Any:
    """Query Prometheus, from a node."""
    url = f"http://prometheus:9090/api/v1/{path}?{urlencode(query)}"
    try:
        text = composed.compose("exec", "-T", "web", "python", "-c", ASK, url)
    except AssertionError:
        return {}
    return json.loads(text)["data"]


def targets(composed: Composed) -> set[tuple[str, str]]:
    """Return each job with how its parts are."""
    found = ask(composed, "targets", state="active")
    return {(one["labels"]["job"], one["health"]) for one in found.get("activeTargets", ())}


def expressions() -> list[str]:
    """Return all queries of the dashboard."""
    dashboard = json.loads((ROOT / "deploy/monitoring/overview.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_what_the_dashboard_asks_has_an_answer(prometheus: Composed, expression: str) -> None:
    eventually(
        lambda: ask(prometheus, "query", query=expression).get("result"),
        seconds=SEEN_SECONDS,
        what="a series",
        every_seconds=2,
    )
