"""Decisions, by example and by property."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.autoscale.decision import Decision, Kind, Snapshot, State, decide
from fleet.autoscale.policies import SHARED_MEASURES, Policy, Rule, load

NOW = 100_000.0
STEP = 10.0
HOT = Rule(measure="cpu_percent", threshold=60, for_seconds=300, grows=True, count=1)
BUSY = Rule(measure="requests_per_minute", threshold=500, for_seconds=60, grows=True, count=2)
COLD = Rule(measure="cpu_percent", threshold=30, for_seconds=600, grows=False, count=1)
POLICY = Policy(
    minimum=1,
    maximum=10,
    cooldown_up_seconds=60,
    cooldown_down_seconds=300,
    step_limit=4,
    stale_seconds=30,
    rules=(HOT, BUSY, COLD),
)

NEVER = State()


def seen(
    seconds: float, *, size: int = 2, until: float = NOW, **values: float
) -> tuple[Snapshot, ...]:
    """Return equal snapshots, one each ten seconds, for so long."""
    values = {"cpu_percent": 45.0, "requests_per_minute": 100.0, **values}
    count = int(seconds / STEP) + 1
    return tuple(
        Snapshot(at=until - STEP * n, size=size, values=values) for n in reversed(range(count))
    )


def decided(
    history: tuple[Snapshot, ...], policy: Policy = POLICY, state: State = NEVER
) -> Decision:
    return decide(history, policy, state, now=NOW)


def test_a_node_comes_after_five_minutes_of_much_work() -> None:
    assert decided(seen(290, cpu_percent=70)).kind is Kind.KEEP
    decision = decided(seen(300, cpu_percent=70))
    assert (decision.kind, decision.target) == (Kind.UP, 3)
    assert decision.reason == "cpu_percent was 70 for 300 s, above 60"


def test_the_mean_counts_and_not_each_value() -> None:
    history = seen(300, cpu_percent=70)
    dip = replace(history[15], values={**history[15].values, "cpu_percent": 0.0})
    assert decided((*history[:15], dip, *history[16:])).target == 3


def test_two_nodes_come_after_a_minute_of_many_requests() -> None:
    assert decided(seen(60, requests_per_minute=501)).target == 4


def test_the_largest_of_the_growing_rules_counts() -> None:
    assert decided(seen(300, cpu_percent=70, requests_per_minute=501)).target == 4


def test_a_node_goes_after_ten_minutes_of_little_work() -> None:
    assert decided(seen(590, cpu_percent=20)).kind is Kind.KEEP
    assert decided(seen(600, cpu_percent=20)).target == 1


def test_no_node_goes_while_a_rule_grows() -> None:
    assert decided(seen(600, cpu_percent=20, requests_per_minute=501)).kind is Kind.UP


def test_no_node_goes_if_the_others_could_not_bear_it() -> None:
    decision = decided(seen(600, cpu_percent=20, requests_per_minute=300))
    assert decision.kind is Kind.KEEP
    assert "with 1 requests_per_minute would be 600, above 500" in decision.reason


def test_no_node_goes_if_the_others_could_not_have_borne_the_last_peak() -> None:
    history = seen(600, cpu_percent=20, requests_per_minute=100)

    def with_peak(seconds: float) -> tuple[Snapshot, ...]:
        return tuple(
            replace(s, values={**s.values, "requests_per_minute": 300.0})
            if NOW - 400 <= s.at <= NOW - 400 + seconds
            else s
            for s in history
        )

    assert decided(history).kind is Kind.DOWN
    # Half of the rule's minute is a mean of 200, which one node could bear.
    assert decided(with_peak(20)).kind is Kind.DOWN
    decision = decided(with_peak(60))
    assert decision.kind is Kind.KEEP
    assert "with 1 requests_per_minute would be 600, above 500" in decision.reason


def test_a_threshold_near_zero_changes_nothing() -> None:
    tiny = replace(BUSY, threshold=5e-324, for_seconds=9999)
    assert decided(seen(600, cpu_percent=5), replace(POLICY, rules=(tiny, COLD))).target == 2


def test_only_so_many_go_as_the_others_can_bear() -> None:
    greedy = replace(POLICY, rules=(BUSY, replace(COLD, count=4)))
    assert decided(seen(600, size=8, cpu_percent=5, requests_per_minute=390), greedy).target == 7
    assert decided(seen(600, size=8, cpu_percent=5, requests_per_minute=10), greedy).target == 4


def test_what_was_seen_of_another_size_does_not_count() -> None:
    history = (*seen(600, until=NOW - 300, cpu_percent=70), *seen(290, size=3, cpu_percent=70))
    assert decided(history).kind is Kind.KEEP


def test_a_gap_restarts_the_window() -> None:
    history = (*seen(300, until=NOW - 140, cpu_percent=70), *seen(100, cpu_percent=70))
    assert decided(history).kind is Kind.KEEP


def test_stale_measurements_stop_everything() -> None:
    decision = decided(seen(600, until=NOW - 31, cpu_percent=99))
    assert (decision.kind, decision.target) == (Kind.MISSING, 2)
    assert decided(()).target is None


def test_a_missing_measurement_stops_the_shrinking_and_not_the_growing() -> None:
    cold = tuple(replace(s, values={"cpu_percent": 5.0}) for s in seen(600))
    decision = decided(cold)
    assert (decision.kind, decision.target) == (Kind.MISSING, 2)
    assert decision.reason == "would shrink, but requests_per_minute is unknown"
    hot = tuple(replace(s, values={"cpu_percent": 90.0}) for s in seen(600))
    assert decided(hot).target == 3


def test_limits_hold_at_once() -> None:
    assert decided(seen(0, size=0)).target == 1
    assert decided(seen(0, size=20)).target == 10
    at_most = decided(seen(600, size=10, cpu_percent=99))
    assert (at_most.kind, at_most.target) == (Kind.LIMIT, 10)
    assert decided(seen(600, size=1, cpu_percent=1)).target == 1


def test_changes_wait_for_their_cooldowns() -> None:
    hot, cold = seen(600, cpu_percent=70), seen(600, cpu_percent=20)
    assert decided(hot, state=State(up_at=NOW - 59)).kind is Kind.COOLDOWN
    assert decided(hot, state=State(up_at=NOW - 60)).kind is Kind.UP
    # Growing need not wait for a shrinking; shrinking waits for both.
    assert decided(hot, state=State(down_at=NOW - 1)).kind is Kind.UP
    assert decided(cold, state=State(up_at=NOW - 299)).kind is Kind.COOLDOWN
    assert decided(cold, state=State(down_at=NOW - 299)).kind is Kind.COOLDOWN
    assert decided(cold, state=State(up_at=NOW - 300, down_at=NOW - 300)).kind is Kind.DOWN


def test_one_change_is_at_most_a_step() -> None:
    policy = replace(POLICY, rules=(replace(BUSY, count=9),))
    assert decided(seen(60, requests_per_minute=900), policy).target == 6


def test_the_state_remembers_the_changes() -> None:
    up = decided(seen(300, cpu_percent=70))
    assert State(down_at=1.0).after(up, now=NOW) == State(up_at=NOW, down_at=1.0)
    assert State(up_at=1.0).after(decided(seen(0)), now=NOW) == State(up_at=1.0)


# --- Properties ---------------------------------------------------------------------------------
measures = st.sampled_from(["cpu_percent", "requests_per_minute", "queue_ms"])
rules = st.builds(
    Rule,
    measure=measures,
    threshold=st.floats(0, 100),
    for_seconds=st.sampled_from([0.0, 20.0, 60.0]),
    grows=st.booleans(),
    count=st.integers(0, 5),
    percent=st.floats(0, 50),
)
policies = st.builds(
    lambda minimum, more, **rest: Policy(minimum=minimum, maximum=minimum + more, **rest),
    minimum=st.integers(0, 5),
    more=st.integers(0, 20),
    cooldown_up_seconds=st.floats(0, 100),
    cooldown_down_seconds=st.floats(0, 100),
    step_limit=st.integers(1, 5),
    stale_seconds=st.floats(1, 60),
    rules=st.lists(rules, max_size=4).map(tuple),
)
histories = st.lists(
    st.tuples(
        st.floats(0, 25),
        st.integers(0, 30),
        st.dictionaries(measures, st.floats(0, 200) | st.just(math.nan)),
    ),
    max_size=15,
)
times = st.none() | st.floats(NOW - 200, NOW)
states = st.builds(State, up_at=times, down_at=times)


def built(steps: list[tuple[float, int, dict[str, float]]], *, steady: bool) -> list[Snapshot]:
    """Return snapshots with these gaps, the last gap up to now."""
    at, found = NOW, []
    for gap, size, values in steps:
        at -= gap
        found.append(Snapshot(at=at, size=steps[0][1] if steady else size, values=values))
    return found[::-1]


@given(histories, policies, states, st.booleans())
def test_every_decision_holds_the_invariants(
    steps: list[tuple[float, int, dict[str, float]]], policy: Policy, state: State, steady: bool
) -> None:
    history = built(steps, steady=steady)
    decision = decide(history, policy, state, now=NOW)
    assert decision == decide(history, policy, state, now=NOW)
    assert decision.reason
    assert decision.is_change == (decision.target != decision.size)
    if not history or NOW - history[-1].at > policy.stale_seconds:
        assert not decision.is_change
        return
    last = history[-1]
    size, target = decision.size, decision.target
    assert size == last.size
    assert target is not None
    assert policy.minimum <= target <= policy.maximum
    if not policy.minimum <= last.size <= policy.maximum:
        return
    assert abs(target - last.size) <= policy.step_limit
    known = {
        name
        for s in history
        if s.size == last.size and NOW - s.at <= policy.stale_seconds
        for name, value in s.values.items()
        if math.isfinite(value)
    }
    if decision.kind is Kind.UP:
        assert any(rule.grows and rule.measure in known for rule in policy.rules)
        assert state.up_at is None or NOW - state.up_at >= policy.cooldown_up_seconds
    if decision.kind is Kind.DOWN:
        assert {rule.measure for rule in policy.rules} <= known
        for at in (state.up_at, state.down_at):
            assert at is None or NOW - at >= policy.cooldown_down_seconds


@given(st.floats(0, 200), st.floats(0, 200), st.integers(2, 20), policies, st.sampled_from([0, 60]))
def test_it_never_shrinks_into_a_growing_rule(
    cpu: float, requests: float, size: int, policy: Policy, window: float
) -> None:
    """With constant measurements: after shrinking, the same work makes no growing rule hold."""
    policy = replace(policy, minimum=0, maximum=20, stale_seconds=30)
    values = {"cpu_percent": cpu, "requests_per_minute": requests, "queue_ms": 0.0}
    decision = decided(seen(window, size=size, **values), policy)
    if decision.kind is not Kind.DOWN:
        return
    assert decision.target is not None
    for rule in policy.rules:
        if not rule.grows:
            continue
        # A window that was never complete says nothing.
        if rule.for_seconds <= window:
            assert not values[rule.measure] > rule.threshold
        if rule.measure in SHARED_MEASURES and values[rule.measure] > 0:
            assert decision.target > 0
            after = values[rule.measure] * size / decision.target
            assert after <= rule.threshold or after == pytest.approx(rule.threshold)


@given(st.integers(1, 1000), st.floats(0, 300))
def test_constant_work_comes_to_rest(size: int, work: float) -> None:
    """The default policies do not swing: so much work for ever ends in one size."""
    policy = replace(load()["web"], maximum=1000, step_limit=1000, stale_seconds=1e9)
    policy = replace(policy, rules=tuple(r for r in policy.rules if r.measure == "cpu_percent"))
    sizes = [size]
    for _ in range(2000):
        values = {"cpu_percent": min(100.0, work * 10 / sizes[-1])}
        history = [Snapshot(at=at, size=sizes[-1], values=values) for at in (0.0, 600.0)]
        decision = decide(history, policy, State(), now=600.0)
        if not decision.is_change:
            break
        assert decision.target is not None
        sizes.append(decision.target)
    assert not decision.is_change
    directions = {b > a for a, b in itertools.pairwise(sizes)}
    assert len(directions) <= 1
