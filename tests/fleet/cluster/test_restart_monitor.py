"""The restart monitor's reports of the states that it sees."""

from __future__ import annotations

from fleet.cluster.restart_monitor import MAX_SHORT_LIVES, SHORT_LIFE_SECONDS, Watch
from fleet.cluster.supervisord import ProcessInfo


def process(state: str = "running", *, pid: int = 1, problem: str = "") -> ProcessInfo:
    return ProcessInfo(name="redis", state=state, pid=pid, started_at=0, problem=problem)


def texts(watch: Watch, seen: ProcessInfo, now: float) -> list[str]:
    return [change.text for change in watch.observe([seen], now=now)]


def test_a_running_process_is_not_reported() -> None:
    watch = Watch()

    assert [texts(watch, process(), now) for now in range(5)] == [[]] * 5
    assert watch.restarts == {"redis": 0}


def test_a_first_start_is_no_restart() -> None:
    watch = Watch()
    texts(watch, process("stopped", pid=0), 0)

    assert texts(watch, process("starting", pid=7), 1) == []
    assert watch.restarts == {"redis": 0}


def test_a_part_that_was_removed_may_come_back_under_its_name() -> None:
    watch = Watch()
    texts(watch, process(pid=1), 0)
    watch.observe([], now=1)

    assert texts(watch, process(pid=2), 2) == []
    assert watch.restarts == {"redis": 0}


def test_a_death_and_the_restart_are_reported_and_counted_once() -> None:
    watch = Watch()
    texts(watch, process(pid=1), 0)

    assert texts(watch, process("backoff", pid=0, problem="Exited too quickly"), 20) == [
        "died (Exited too quickly); starting it again"
    ]
    assert texts(watch, process("backoff", pid=0), 21) == []
    assert texts(watch, process("starting", pid=2), 22) == [
        "died and was started again (process 2)"
    ]
    assert watch.restarts == {"redis": 1}


def test_a_restart_between_two_looks_is_seen_by_its_pid() -> None:
    watch = Watch()
    texts(watch, process(pid=1), 0)

    assert texts(watch, process(pid=2), 20) == ["died and was started again (process 2)"]
    assert watch.restarts == {"redis": 1}


def test_a_process_that_was_stopped_has_not_died() -> None:
    watch = Watch()
    texts(watch, process(pid=1), 0)

    assert texts(watch, process("stopping", pid=1), 1) == []
    assert texts(watch, process("stopped", pid=0), 2) == []
    assert texts(watch, process("running", pid=2), 3) == []
    assert watch.restarts == {"redis": 0}


def test_what_supervisord_gave_up_is_final() -> None:
    (change,) = Watch().observe([process("fatal", pid=0)], now=0)

    assert change.is_final


def test_a_part_that_never_lives_long_is_final_though_supervisord_goes_on() -> None:
    watch = Watch()
    finals = []
    for pid in range(1, MAX_SHORT_LIVES + 2):
        finals += watch.observe([process(pid=pid)], now=pid * SHORT_LIFE_SECONDS / 2)

    assert [change.is_final for change in finals] == [False] * (MAX_SHORT_LIVES - 1) + [True]


def test_a_process_that_is_killed_now_and_then_is_restarted_for_ever() -> None:
    watch = Watch()
    for pid in range(1, 4 * MAX_SHORT_LIVES):
        changes = watch.observe([process(pid=pid)], now=pid * SHORT_LIFE_SECONDS * 1.1)

        assert not any(change.is_final for change in changes)
