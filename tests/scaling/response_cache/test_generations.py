"""A process notices what another clears, and has its last copy while Redis is unavailable."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaling.response_cache import generations
from scaling.response_cache.generations import Generations, account_counter, chain_counter
from scaling.response_cache.store import StoreUnavailable
from tests.support.waiting import eventually

pytestmark = pytest.mark.parametrize("server", ["redis"], indirect=True)

SEEN_SECONDS = 0.5
ACCOUNT = account_counter(uuid.UUID(int=7))
OTHER_ACCOUNT = account_counter(uuid.UUID(int=8))


@pytest.fixture
def other(server: Any) -> Iterator[Generations]:
    """The generations of another process."""
    made = Generations()
    yield made

    made.reset()


@pytest.fixture(autouse=True)
def _forget_our_marks() -> Iterator[None]:
    generations.GENERATIONS.reset()
    yield
    generations.GENERATIONS.reset()


def of(process: Generations, chain: str = "a", account: str = ACCOUNT) -> str:
    return process.generation(chain=chain_counter(chain), account=account)


def wait_until(check: Callable[[], bool], *, seconds: float = SEEN_SECONDS) -> None:
    eventually(check, seconds=seconds, what="the generation changes", every_seconds=0.01)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("all", {("a", ACCOUNT), ("b", ACCOUNT), ("a", OTHER_ACCOUNT), ("b", OTHER_ACCOUNT)}),
        (chain_counter("a"), {("a", ACCOUNT), ("a", OTHER_ACCOUNT)}),
        (ACCOUNT, {("a", ACCOUNT), ("b", ACCOUNT)}),
    ],
)
def test_what_is_cleared_is_seen_elsewhere_within_half_a_second(other, name, changed):
    which = [(chain, account) for chain in "ab" for account in (ACCOUNT, OTHER_ACCOUNT)]
    before = {pair: of(other, *pair) for pair in which}
    generations.clear(name)
    # Who clears obeys at once.
    assert all(of(generations.GENERATIONS, *pair) != before[pair] for pair in changed)
    wait_until(lambda: all(of(other, *pair) != before[pair] for pair in changed))
    assert {pair for pair in which if of(other, *pair) != before[pair]} == changed


def test_processes_agree(other):
    for name in ("all", chain_counter("a"), ACCOUNT):
        generations.clear(name)
    wait_until(lambda: of(other) == of(generations.GENERATIONS))


def test_while_redis_is_unavailable_the_last_generations_stand_and_nothing_can_be_cleared(
    other, server, settings
):
    settings.REDIS_RETRY_SECONDS = 0.05
    before = of(other)
    server.kill()
    with pytest.raises(StoreUnavailable):
        generations.clear("all")
    time.sleep(3 * generations.POLL_SECONDS)
    assert of(other) == before
    server.start()
    # It lost its generations with everything else; no answer from before is found again.
    wait_until(lambda: of(other) != before, seconds=1.0)
    generations.clear(chain_counter("a"))
    after = of(generations.GENERATIONS)
    wait_until(lambda: of(other) == after)


def test_a_process_that_began_without_redis_learns_of_it(other, server, settings):
    settings.REDIS_RETRY_SECONDS = 0.05
    server.kill()
    before = of(other)
    assert of(other) == before
    # Answers stored under it must not be found after a clearing, by a process that starts so.
    assert before != of(generations.GENERATIONS)
    server.start()
    wait_until(lambda: of(other) == of(generations.GENERATIONS), seconds=1.0)


def test_rubbish_in_the_place_of_the_marks_changes_nothing(other, server, settings):
    settings.REDIS_RETRY_SECONDS = 0.05
    before = of(other)
    client = server.client()
    for rubbish in ("a word", b"\xff\xfe", "1.5", ""):
        client.hset("headrace:cache:marks", chain_counter("a"), rubbish)
        time.sleep(2 * generations.POLL_SECONDS)
        assert of(other) == before
    client.delete("headrace:cache:marks")
    client.set("headrace:cache:marks", "not a hash")
    time.sleep(2 * generations.POLL_SECONDS)
    assert of(other) == before
    client.delete("headrace:cache:marks")
    wait_until(lambda: of(other) != before, seconds=1.0)
