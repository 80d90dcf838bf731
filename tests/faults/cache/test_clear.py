"""A clear is obeyed, or says that it was not done."""

from __future__ import annotations

import time

import pytest

from tests.faults.cache.harness import CacheFaults
from tests.provider import Provider

pytestmark = pytest.mark.timeout(90)


def test_a_clear_reports_its_success_and_has_effect_once_redis_is_back(
    faults: CacheFaults, provider: Provider, mark: str
) -> None:
    clients = [faults.client(node) for node in range(2)]
    for client in clients:
        client.ask("cached", mark)
    for away in (faults.redis_killed, faults.redis_frozen):
        with away():
            refused = faults.stack.manage("cache", "clear", "--all")
            assert refused.returncode == 1
            assert refused.stdout == ""
            assert "Nothing was cleared yet" in refused.stderr
    # A frozen Redis may run a received command when it thaws; so the answer is computed once more.
    time.sleep(1.5)
    for client in clients:
        client.ask("cached", mark)
    calls = len(provider.calls_of(mark))
    with faults.redis_killed():
        time.sleep(1)
    # As soon as it is back; the command takes a moment to begin.
    done = faults.stack.manage("cache", "clear", "--all")
    cleared = time.monotonic()
    assert done.returncode == 0, done.stderr
    assert "within a second" in done.stdout
    assert all(client.ask("cached", mark).status == 200 for client in clients)
    last_old = cleared
    while time.monotonic() < cleared + 2:
        for client in clients:
            answer = client.ask("cached", mark)
            age = int(answer.headers["age"])
            if answer.asked_at - age < cleared - 1:
                last_old = answer.asked_at
        time.sleep(0.02)
    assert last_old < cleared + 1.0
    assert 1 <= len(provider.calls_of(mark)) - calls <= 2
