"""Reads that are cached for a second: which accounts get them, and that a write ends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from chat.caching.read_cache import READ_CACHE_POLICY, RECENT_READS, read
from scaling.response_cache import invalidation
from scaling.response_cache.invalidation import TRUST, invalidate, invalidated_while
from tests.support.calls import error_of
from tests.support.redis_server import OwnRedis, own_redis
from tests.support.waiting import eventually

__all__ = ["own_redis"]

ROUNDS = 100
KEPT_SECONDS = 1.0


def status(response: httpx.Response) -> str:
    return str(response.headers["cache-status"])


def warm(client: httpx.Client, path: str) -> bool:
    """Read until a cached answer comes; return False if none came, as on a very slow machine."""
    for _ in range(6):
        response = client.get(path)
        assert response.status_code == 200, response.text
        if "; hit" in status(response):
            return True
    return False


def start_conversation(client: httpx.Client) -> str:
    body = {"chain": "provider-hello", "metadata": {"n": "0"}}
    response = client.post("/v1/conversations", json=body)
    assert response.status_code == 201, response.text
    return f"/v1/conversations/{response.json()['id']}"


def post_job(client: httpx.Client, chain: str, value: Any, **more: Any) -> str:
    response = client.post("/v1/jobs", json={"chain": chain, "input": value, **more})
    assert response.status_code == 202, response.text
    return f"/v1/jobs/{response.json()['id']}"


def test_a_repeated_read_is_cached(nodes: list[httpx.Client]) -> None:
    path = start_conversation(nodes[0])
    first = nodes[0].get(path)
    assert status(first) == "Headrace; fwd=miss"
    assert first.headers["age"] == "0"
    assert warm(nodes[0], path)
    # The other node finds the first one's entry, once it gets the read again itself.
    nodes[1].get(path)
    assert warm(nodes[1], path)
    hit = nodes[0].get(path)
    assert hit.json() == first.json()
    assert hit.headers["content-type"] == first.headers["content-type"]
    time.sleep(KEPT_SECONDS)
    assert "; hit" not in status(nodes[0].get(path))
    new = nodes[0].get(path, headers={"Cache-Control": "no-cache"})
    assert status(new) == "Headrace; fwd=request"


@pytest.mark.timeout(240)
def test_a_write_on_one_node_is_seen_at_once_on_the_other(nodes: list[httpx.Client]) -> None:
    hits = 0
    for number in range(ROUNDS):
        writer, reader = nodes[number % 2], nodes[1 - number % 2]
        path = start_conversation(writer)
        hits += warm(reader, path)
        metadata = {"n": str(number + 1)}
        assert writer.patch(path, json={"metadata": metadata}).status_code == 200
        for _ in range(3):
            assert reader.get(path).json()["metadata"] == metadata
    assert hits > ROUNDS / 2


def test_many_writes_to_one_conversation_are_each_seen(nodes: list[httpx.Client]) -> None:
    path = start_conversation(nodes[0])
    assert warm(nodes[1], path)
    for number in range(ROUNDS):
        metadata = {"n": str(number + 1)}
        assert nodes[0].patch(path, json={"metadata": metadata}).status_code == 200
        assert nodes[1].get(path).json()["metadata"] == metadata


def test_new_messages_and_a_deletion_are_seen_at_once(nodes: list[httpx.Client]) -> None:
    path = start_conversation(nodes[0])
    messages = f"{path}/messages"
    assert warm(nodes[1], messages)
    assert warm(nodes[1], f"{messages}?limit=1&order=desc")
    sent = nodes[0].post(messages, json={"content": "Hello"})
    assert sent.status_code == 201, sent.text
    assert len(nodes[1].get(messages).json()["data"]) == 2
    last = nodes[1].get(f"{messages}?limit=1&order=desc").json()["data"]
    assert [message["id"] for message in last] == [sent.json()["id"]]
    time.sleep(invalidation.INVALIDATION_SECONDS + 0.2)
    assert warm(nodes[1], path)
    assert warm(nodes[1], messages)
    assert nodes[0].delete(path).status_code == 200
    error_of(nodes[1].get(path), 404, "conversation_not_found")
    error_of(nodes[1].get(messages), 404, "conversation_not_found")


def test_a_cancelled_job_is_cancelled_on_the_other_node(nodes: list[httpx.Client]) -> None:
    hits = 0
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for number in range(ROUNDS // 4):
        writer, reader = nodes[number % 2], nodes[1 - number % 2]
        path = post_job(writer, "echo", "x", run_at=later)
        hits += warm(reader, path)
        assert writer.post(f"{path}/cancel").json()["status"] == "cancelled"
        assert reader.get(path).json()["status"] == "cancelled"
    assert hits > ROUNDS / 8


def wait_for_status(node: httpx.Client, path: str, status: str) -> None:
    eventually(
        lambda: node.get(path).json()["status"] == status, seconds=30, what=f"the job is {status}"
    )


def test_a_running_job_is_seen_to_end_and_to_be_retried(nodes: list[httpx.Client]) -> None:
    value = {"messages": [{"role": "user", "content": "x"}]}
    path = post_job(nodes[0], "provider-hang", value)
    wait_for_status(nodes[0], path, "running")
    time.sleep(invalidation.INVALIDATION_SECONDS + 0.2)
    assert warm(nodes[1], path)
    assert nodes[0].post(f"{path}/cancel").json()["status"] in ("cancelling", "cancelled")
    assert nodes[1].get(path).json()["status"] in ("cancelling", "cancelled")
    wait_for_status(nodes[1], path, "cancelled")
    time.sleep(invalidation.INVALIDATION_SECONDS + 0.2)
    assert warm(nodes[1], path)
    assert nodes[0].post(f"{path}/retry").status_code == 202
    assert nodes[1].get(path).json()["status"] in ("queued", "running")
    assert nodes[0].post(f"{path}/cancel").status_code == 200


def test_a_response_is_cached_and_invalidated_at_once(nodes: list[httpx.Client]) -> None:
    body = {"model": "provider-hang", "input": "x", "background": True}
    posted = nodes[0].post("/v1/responses", json=body)
    assert posted.status_code == 200, posted.text
    path = f"/v1/responses/{posted.json()['id']}"
    time.sleep(invalidation.INVALIDATION_SECONDS + 1)
    assert warm(nodes[1], path)
    nodes[0].post(f"{path}/cancel")
    wait_for_status(nodes[1], path, "cancelled")


def test_another_account_is_given_nothing(http: httpx.Client, other_http: httpx.Client) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for path, code in (
        (start_conversation(http), "conversation_not_found"),
        (post_job(http, "echo", "x", run_at=later), "job_not_found"),
    ):
        for _ in range(4):
            http.get(path)
            error_of(other_http.get(path), 404, code)


def test_the_models_are_listed_from_memory(
    nodes: list[httpx.Client], save_chains: Callable[..., None], marker: str
) -> None:
    slug = marker[:40]
    error_of(nodes[0].get(f"/v1/models/{slug}"), 404, "model_not_found")
    answers = [nodes[0].get("/v1/models") for _ in range(5)]
    assert any(status(answer).endswith("detail=near") for answer in answers)
    new = nodes[0].get("/v1/models", headers={"Cache-Control": "no-cache"})
    assert "; hit" not in status(new)
    assert new.json() == answers[0].json()
    save_chains({"slug": slug, "runnable": "echo"})
    for node in nodes:
        assert node.get(f"/v1/models/{slug}").json()["id"] == slug
        assert slug in [model["id"] for model in node.get("/v1/models").json()["data"]]
    save_chains({"slug": slug, "runnable": "echo", "is_enabled": False})
    for node in nodes:
        error_of(node.get(f"/v1/models/{slug}"), 404, "model_not_found")


# --- In one process ------------------------------------------------------------------------------
class Row:
    """Something in a database, and the looks at it."""

    def __init__(self) -> None:
        self.subject = f"row:{uuid4().hex}"
        self.account_id = uuid4()
        self.value = 0
        self.looks = 0
        self.on_look: Callable[[], None] = lambda: None

    def look(self) -> int:
        self.looks += 1
        value = self.value
        self.on_look()
        return value

    def get(self, account_id: UUID | None = None) -> tuple[int, str]:
        """Return the body of a read, and its cache status."""
        body, headers = read(
            self.look,
            policy=READ_CACHE_POLICY,
            subject=self.subject,
            account_id=account_id or self.account_id,
            path="/row",
            cache_control="",
        )
        return int(orjson.loads(orjson.dumps(body))), headers["Cache-Status"]

    def write(self) -> None:
        with invalidated_while([self.subject]):
            self.value += 1

    def warm(self) -> None:
        assert any("; hit" in self.get()[1] for _ in range(10))


@pytest.fixture
def row(own_redis: OwnRedis, settings: Any) -> Iterator[Row]:
    settings.REDIS_RETRY_SECONDS = 0.05
    settings.REDIS_TIMEOUT_SECONDS = 0.2
    TRUST.reset()
    yield Row()
    TRUST.reset()


def test_a_read_during_a_write_is_not_found_later(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidation, "INVALIDATION_SECONDS", 0.1)
    row.get()
    row.on_look = row.write
    assert row.get()[0] == 0
    row.on_look = lambda: None
    assert row.get()[0] == 1
    time.sleep(0.15)
    row.warm()
    assert row.get()[0] == 1


def test_a_read_that_is_not_repeated_does_not_read_the_store(row: Row, own_redis: OwnRedis) -> None:
    # The first read of all reads the generations.
    row.get()
    before = own_redis.client().info("commandstats")
    assert row.get(uuid4())[1] == "Headrace; fwd=miss"
    after = own_redis.client().info("commandstats")
    assert before.get("cmdstat_mget") == after.get("cmdstat_mget")


def test_a_slow_read_is_not_cached_longer(row: Row) -> None:
    row.get()
    row.on_look = lambda: time.sleep(KEPT_SECONDS * 1.1)
    assert row.get()[1] == "Headrace; fwd=miss"


def test_a_store_that_is_killed_and_comes_back_shows_nothing_old(
    row: Row, own_redis: OwnRedis
) -> None:
    row.warm()
    own_redis.kill()
    for number in range(1, 4):
        row.write()
        assert row.get()[0] == number
    own_redis.start()
    for _ in range(20):
        assert row.get()[0] == 3
        time.sleep(0.01)
    time.sleep(KEPT_SECONDS)
    row.warm()
    row.write()
    assert row.get()[0] == 4


def test_what_a_frozen_store_still_holds_is_old_for_a_second_at_most(
    row: Row, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    row.warm()
    own_redis.freeze()
    try:
        row.write()
        written = time.monotonic()
    finally:
        own_redis.thaw()
    # The writer's own process trusts nothing for as long.
    while time.monotonic() < written + KEPT_SECONDS:
        assert row.get()[0] == 1
        time.sleep(0.02)
    # Another process would have read the store all the time.
    TRUST.reset()
    for _ in range(10):
        assert row.get()[0] == 1


def test_a_process_that_missed_the_outage_is_late_by_a_second_at_most(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row.warm()
    # A writer that is cut off from the store.
    row.value = 1
    written = time.monotonic()
    while row.get()[0] == 0:
        assert time.monotonic() < written + KEPT_SECONDS + 0.2
        time.sleep(0.01)


def test_reads_that_are_not_cached_cost_writes_nothing(
    row: Row, own_redis: OwnRedis, settings: Any
) -> None:
    settings.READ_CACHE_SECONDS = 0
    invalidate([row.subject])
    assert own_redis.client().keys("*version*") == []


def test_the_memory_of_reads_is_bounded() -> None:
    for number in range(25_000):
        RECENT_READS.seen_within(f"unit {number}", 1)
    assert len(RECENT_READS) <= 10_000
