"""Liveness, readiness and metrics of a node."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, run_manage

# The answers of a node without its database, from inside.
ASK = """
import json
from django.test import Client
client = Client(raise_request_exception=False)
answers = {}
for path in ("/health/live", "/health/ready", "/v1/models", "/admin/"):
    response = client.get(path, headers={"Authorization": "Bearer KEY", "Host": "localhost"})
    answers[path] = {
        "status": response.status_code,
        "retry_after": response.headers.get("Retry-After"),
        "body": response.json() if "json" in response.headers["Content-Type"] else None,
    }
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def node(stack: EmbeddedStack) -> str:
    """One node's address, past HAProxy."""
    return f"http://{stack.part('node1')['address']}"


def test_a_stack_that_runs_is_ready(stack: EmbeddedStack, node: str) -> None:
    response = httpx.get(f"{node}/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "checks": {"database": "ok", "redis": "ok"}}
    # HAProxy answers by itself, and strangers hear no more.
    response = httpx.get(f"{stack.url}/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_liveness_asks_for_nothing_but_the_process(node: str) -> None:
    response = httpx.get(f"{node}/health/live")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_without_its_database_a_node_lives_and_is_not_ready(stack: EmbeddedStack) -> None:
    env = {
        "DATABASE_URL": "postgresql://headrace@127.0.0.1:1/headrace",
        "DATABASE_POOL_TIMEOUT_SECONDS": "0.5",
    }
    script = ASK.replace("KEY", stack.demo_key)
    done = run_manage(stack, "shell", "--no-imports", "-c", script, env=env)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["/health/live"]["status"] == 200
    assert answers["/health/ready"]["status"] == 503
    assert answers["/health/ready"]["body"]["checks"] == {"database": "unreachable", "redis": "ok"}
    models = answers["/v1/models"]
    assert models["status"] == 503
    assert models["body"]["error"]["code"] == "database_unavailable"
    assert int(models["retry_after"]) >= 1
    assert "127.0.0.1" not in str(models)


def test_a_database_without_its_tables_is_not_ready(stack: EmbeddedStack) -> None:
    empty = stack.database_url.rpartition("/")[0] + "/postgres"
    script = ASK.replace("KEY", stack.demo_key)
    env = {"DATABASE_URL": empty, "CACHE_URL": "redis://127.0.0.1:1/0"}
    done = run_manage(stack, "shell", "--no-imports", "-c", script, env=env)
    assert done.returncode == 0, done.stderr
    ready = json.loads(done.stdout)["/health/ready"]
    assert ready["status"] == 503
    assert ready["body"]["checks"] == {"database": "migrations pending", "redis": "unreachable"}


def test_a_nodes_metrics_count_chats_by_how_they_ended(
    node: str, stack: EmbeddedStack, chains: None
) -> None:
    headers = {"Authorization": f"Bearer {stack.demo_key}"}

    def count(name: str, *labels: str) -> float:
        lines = httpx.get(f"{node}/metrics").text.splitlines()
        found = [
            line
            for line in lines
            if line.startswith(f"{name}{{") and all(x in line for x in labels)
        ]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def chat(model: str) -> None:
        httpx.post(f"{node}/v1/chat/completions", json=chat_body(model), headers=headers)

    hello = ('chain="provider-hello"', 'api="completions"', 'outcome="ok"')
    broken = ('chain="broken"', 'outcome="chain_error"')
    before = (
        count("headrace_chain_calls_total", *hello),
        count("headrace_chain_calls_total", *broken),
    )
    tokens = count("headrace_tokens_total", 'chain="provider-hello"', 'kind="completion"')
    busy = count("headrace_provider_calls_total", 'outcome="provider_overloaded"')
    for model in ("provider-hello", "provider-hello", "broken", "provider-fail-429"):
        chat(model)
    assert count("headrace_chain_calls_total", *hello) == before[0] + 2
    assert count("headrace_chain_calls_total", *broken) == before[1] + 1
    assert (
        count("headrace_tokens_total", 'chain="provider-hello"', 'kind="completion"')
        == tokens + 2 * 7
    )
    assert count("headrace_provider_calls_total", 'outcome="provider_overloaded"') == busy + 3


def test_every_answer_has_a_request_id_and_keeps_a_good_one(stack: EmbeddedStack) -> None:
    for path in ("/v1/models", "/health/ready", "/docs", "/nothing"):
        assert httpx.get(f"{stack.url}{path}").headers["x-request-id"].startswith("req_")
    response = httpx.get(f"{stack.url}/health/ready", headers={"x-request-id": "mine:1.a-b_c"})
    assert response.headers["x-request-id"] == "mine:1.a-b_c"
    for bad in ("a b", "x" * 129, "<script>", "é".encode("latin-1")):
        response = httpx.get(f"{stack.url}/health/ready", headers={"x-request-id": bad})  # type: ignore[arg-type]
        assert response.headers["x-request-id"].startswith("req_")
