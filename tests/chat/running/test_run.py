"""The state of one call, and how it is stopped."""

from __future__ import annotations

import contextlib
import time

import gevent
import pytest

from chat.running.run import Run, RunCancelled, current_run, report_progress
from tests.support.waiting import slack


def test_cancelling_stops_what_is_under_way_and_nothing_else() -> None:
    run = Run(timeout_seconds=10)
    ends: dict[str, str] = {}

    def work(name: str, *, is_cancellable: bool) -> None:
        try:
            if is_cancellable:
                with run.cancellable():
                    gevent.sleep(5)
            else:
                gevent.sleep(0.05)
            ends[name] = "done"
        except RunCancelled:
            ends[name] = "cancelled"

    inside = [gevent.spawn(work, name, is_cancellable=True) for name in "ab"]
    outside = gevent.spawn(work, "c", is_cancellable=False)
    gevent.sleep(0.01)
    started = time.monotonic()
    run.cancel()
    gevent.joinall([*inside, outside])
    assert time.monotonic() - started < slack(1)
    assert ends == {"a": "cancelled", "b": "cancelled", "c": "done"}


def test_cancelling_again_interrupts_no_cleanup() -> None:
    run = Run(timeout_seconds=10)
    closed: list[str] = []

    def work() -> None:
        with run.cancellable():
            try:
                gevent.sleep(5)
            finally:
                gevent.sleep(0)
                closed.append("connection")

    worker = gevent.spawn(work)
    gevent.sleep(0)
    run.cancel()
    run.cancel()
    worker.join(timeout=1)
    assert closed == ["connection"]


def test_after_cancelling_nothing_more_begins() -> None:
    run = Run(timeout_seconds=10)
    run.cancel()
    with pytest.raises(RunCancelled), run.cancellable():
        pytest.fail("begun")


def test_a_chains_own_except_does_not_swallow_the_end() -> None:
    run = Run(timeout_seconds=10)
    tries: list[int] = []

    def stubborn() -> None:
        for number in range(3):
            with contextlib.suppress(Exception), run.cancellable():
                tries.append(number)
                gevent.sleep(5)

    worker = gevent.spawn(stubborn)
    gevent.sleep(0.01)
    run.cancel()
    worker.join(timeout=1)
    assert tries == [0]
    assert isinstance(worker.exception, RunCancelled)


def test_a_finished_part_is_not_killed_later() -> None:
    run = Run(timeout_seconds=10)

    def work() -> str:
        with run.cancellable():
            gevent.sleep(0)
        gevent.sleep(0.05)
        return "whole"

    worker = gevent.spawn(work)
    gevent.sleep(0.02)
    run.cancel()
    assert worker.get(timeout=1) == "whole"


def test_a_model_call_inside_a_chain_is_cancelled_once() -> None:
    run = Run(timeout_seconds=10)
    seen: list[str] = []

    def work() -> None:
        try:
            with run.cancellable():
                with run.cancellable():
                    gevent.sleep(0)
                # The inner one's end must not end the outer one.
                gevent.sleep(5)
        except RunCancelled:
            seen.append("cancelled")

    worker = gevent.spawn(work)
    gevent.sleep(0.02)
    run.cancel()
    worker.join(timeout=1)
    assert seen == ["cancelled"]


def test_the_time_left_never_goes_below_zero() -> None:
    run = Run(timeout_seconds=0.01)
    assert 0 < run.seconds_left() <= 0.01
    time.sleep(0.02)
    assert run.seconds_left() == 0.0


def test_a_stream_that_was_cut_off_is_billed_by_its_chunks() -> None:
    run = Run(timeout_seconds=1)
    run.streamed_chunks = 5
    assert run.billed_tokens() == 5
    run.usage.add(prompt_tokens=10, completion_tokens=7)
    assert run.billed_tokens() == 17


def test_progress_goes_to_the_current_run_alone() -> None:
    report_progress(1, 2)
    run = Run(timeout_seconds=1)
    token = current_run.set(run)
    try:
        report_progress(1, 2, "half")
    finally:
        current_run.reset(token)
    assert run.progress is not None
    assert (run.progress.completed, run.progress.total) == (1, 2)
    report_progress(2, 2)
    assert run.progress.completed == 1
