"""The watcher goes on after any answer of a server."""

from __future__ import annotations

import pytest

from scaling.replicas.position import Position
from scaling.replicas.sampling import Sampler
from scaling.replicas.topology import TOPOLOGY
from scaling.replicas.watcher import Watcher
from tests.stack_plugin import EmbeddedStack
from tests.support.waiting import eventually

WAIT_SECONDS = 10.0


def test_an_answer_without_sense_does_not_end_the_watch(
    stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, senseless = Sampler.sample, iter(range(2))

    def ask_in_turn(sampler: Sampler) -> object:
        if next(senseless, None) is not None:
            return Position.parse("no position")
        return ask(sampler)

    monkeypatch.setattr(Sampler, "sample", ask_in_turn)
    monkeypatch.setattr(TOPOLOGY.primary, "sample", None)
    watcher = Watcher()
    try:
        watcher.tick()
        eventually(
            lambda: TOPOLOGY.primary.sample is not None,
            seconds=WAIT_SECONDS,
            what="the primary is sampled",
        )
    finally:
        watcher.close()
