"""Whether a fleet grows, shrinks or stays: a pure function of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fleet.autoscale.policies import SHARED_MEASURES, Policy, Rule


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One look at a fleet. `at` is in seconds; what could not be measured is not in `values`."""

    at: float
    size: int
    values: Mapping[str, float] = field(default_factory=dict)


class Kind(StrEnum):
    """The outcome of a decision; all but UP and DOWN leave the fleet unchanged."""

    UP = "up"
    DOWN = "down"
    KEEP = "keep"
    # Something would change it, but the last change is too recent, or it is as large or small as
    # it may be.
    COOLDOWN = "cooldown"
    LIMIT = "limit"
    # Too little is known.
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The size that was seen (None: it is not known) and the one that is wanted, and why."""

    kind: Kind
    size: int | None
    target: int | None
    reason: str

    @property
    def is_change(self) -> bool:
        """Whether there is something to do."""
        return self.kind in (Kind.UP, Kind.DOWN)


@dataclass(frozen=True, kw_only=True)
class State:
    """The times of the fleet's last growth and shrinkage; None is never."""

    up_at: float | None = None
    down_at: float | None = None

    def after(self, decision: Decision, *, now: float) -> State:
        """Return the state when a decision has been carried out."""
        if decision.kind is Kind.UP:
            return replace(self, up_at=now)
        return replace(self, down_at=now) if decision.kind is Kind.DOWN else self


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """A mean over a rule's window, or over what there is of it (`is_complete` False)."""

    value: float
    is_complete: bool


def decide(history: Sequence[Snapshot], policy: Policy, state: State, *, now: float) -> Decision:
    """Return what to do with a fleet, given what was seen of it, the oldest first.

    Invariants, as long as the newest snapshot is not stale: the target is from `minimum` to
    `maximum`; apart from getting there it differs by at most `step_limit`; it is smaller only if
    every measurement that a rule names is there and no growing rule holds, nor would hold with so
    few.

    Only snapshots count since the fleet has had its present size: what was measured before is of
    another fleet. So each change must wait for its rule's full window again.
    """
    if not history or not 0 <= now - history[-1].at <= policy.stale_seconds:
        size = history[-1].size if history else None
        reason = "the measurements are stale" if history else "no measurements yet"
        return Decision(kind=Kind.MISSING, size=size, target=size, reason=reason)
    size = history[-1].size
    if size < policy.minimum:
        return _change(size, policy.minimum, f"below the minimum of {policy.minimum}")
    if size > policy.maximum:
        return _change(size, policy.maximum, f"above the maximum of {policy.maximum}")

    means = [(rule, _mean(history, rule, policy, now)) for rule in policy.rules]
    holding = [(r, m.value) for r, m in means if m and m.is_complete and r.holds(m.value)]
    if growing := [found for found in holding if found[0].grows]:
        return _grow(size, growing, policy, state, now)
    if shrinking := [found for found in holding if not found[0].grows]:
        missing = [rule.measure for rule, mean in means if mean is None]
        if missing:
            return _stay(Kind.MISSING, size, f"would shrink, but {missing[0]} is unknown")
        seconds = max(rule.for_seconds for rule, _ in shrinking)
        up = [
            (rule, max(mean.value, _highest_mean(history, rule, policy, seconds)))
            for rule, mean in means
            if mean and rule.grows and rule.measure in SHARED_MEASURES
        ]
        changes = [at for at in (state.up_at, state.down_at) if at is not None]
        wait = _wait(max(changes, default=None), policy.cooldown_down_seconds, now)
        return _shrink(size, shrinking, up, policy, wait)
    return _idle(size, means, policy)


def _grow(
    size: int, growing: list[tuple[Rule, float]], policy: Policy, state: State, now: float
) -> Decision:
    rule, mean = max(growing, key=lambda found: found[0].amount(size))
    why = _sentence(rule, mean)
    if size == policy.maximum:
        return _stay(Kind.LIMIT, size, f"{why}, but this is the maximum")
    if wait := _wait(state.up_at, policy.cooldown_up_seconds, now):
        return _stay(Kind.COOLDOWN, size, f"{why}, but it grew a moment ago: {wait:.0f} s more")
    amount = min(rule.amount(size), policy.step_limit)
    return _change(size, min(size + amount, policy.maximum), why)


def _shrink(
    size: int,
    shrinking: list[tuple[Rule, float]],
    up: list[tuple[Rule, float]],
    policy: Policy,
    wait: float,
) -> Decision:
    rule, mean = max(shrinking, key=lambda found: found[0].amount(size))
    why = _sentence(rule, mean)
    if size == policy.minimum:
        return _stay(Kind.KEEP, size, f"{why}, and this is the minimum")
    if wait:
        return _stay(Kind.COOLDOWN, size, f"{why}, but it changed a moment ago: {wait:.0f} s more")
    target = max(size - min(rule.amount(size), policy.step_limit), policy.minimum)
    # Fewer have more each. To shrink into a growing rule would be to swing for ever, so
    # with fewer none may have held for as long as the shrinking rule has looked.
    for other, value in up:
        needed = _needed(size, other, value)
        if needed >= size:
            each = value * size / (size - 1) if size > 1 else value
            return _stay(
                Kind.KEEP,
                size,
                f"{why}, but with {size - 1} {other.measure} would be {each:.4g}, above "
                f"{other.threshold:g}",
            )
        target = max(target, needed)
    return _change(size, target, why)


def _needed(size: int, rule: Rule, mean: float) -> int:
    """Return the size at which no growing rule holds."""
    if mean <= 0:
        return 0
    # Also where the threshold is 0, or so small that the division would overflow.
    if mean >= rule.threshold:
        return size
    fewest = math.ceil(mean * size / rule.threshold)
    # The division may have been rounded to just below.
    return fewest + 1 if fewest and rule.holds(mean * size / fewest) else fewest


def _idle(size: int, means: Sequence[tuple[Rule, _Mean | None]], policy: Policy) -> Decision:
    if not policy.rules:
        return _stay(Kind.KEEP, size, "there are no rules")
    if missing := [rule.measure for rule, mean in means if mean is None]:
        return _stay(Kind.MISSING, size, f"{missing[0]} is unknown")
    if not any(mean and mean.is_complete for _, mean in means):
        return _stay(Kind.KEEP, size, "no rule has been watched for long enough")
    return _stay(Kind.KEEP, size, "no rule holds")


def _mean(history: Sequence[Snapshot], rule: Rule, policy: Policy, now: float) -> _Mean | None:
    """Return the mean over a rule's window; None when the newest value is missing or stale."""
    size, start = history[-1].size, now - rule.for_seconds
    total, count, newer = 0.0, 0, now
    for snapshot in reversed(history):
        if snapshot.size != size or newer - snapshot.at > policy.stale_seconds:
            break
        value = snapshot.values.get(rule.measure)
        if value is None or not math.isfinite(value):
            continue
        newer = snapshot.at
        # The first one from before the window shows that the window is complete.
        if newer < start and count:
            return _Mean(value=total / count, is_complete=True)
        total, count = total + value, count + 1
        if newer <= start:
            return _Mean(value=total / count, is_complete=True)
    return _Mean(value=total / count, is_complete=False) if count else None


def _highest_mean(history: Sequence[Snapshot], rule: Rule, policy: Policy, seconds: float) -> float:
    """Return the highest mean over a rule's window that ended in the last so many seconds."""
    size, newest = history[-1].size, history[-1].at
    series: list[tuple[float, float]] = []
    for snapshot in reversed(history):
        if snapshot.size != size or newest - snapshot.at > seconds + policy.stale_seconds:
            break
        value = snapshot.values.get(rule.measure)
        if value is not None and math.isfinite(value):
            series.append((snapshot.at, value))
    highest, total, oldest = 0.0, 0.0, 0
    for number, (end, value) in enumerate(series):
        while oldest < len(series) and series[oldest][0] >= end - rule.for_seconds:
            total += series[oldest][1]
            oldest += 1
        if series[-1][0] > end - rule.for_seconds:
            # From here on no window is complete.
            break
        highest = max(highest, total / (oldest - number))
        total -= value
    return highest


def _wait(since: float | None, seconds: float, now: float) -> float:
    # A clock that was set back must not stop everything until it has caught up.
    return 0.0 if since is None or now < since else max(0.0, since + seconds - now)


def _sentence(rule: Rule, mean: float) -> str:
    side = "above" if rule.grows else "below"
    return f"{rule.measure} was {mean:.4g} for {rule.for_seconds:g} s, {side} {rule.threshold:g}"


def _change(size: int, target: int, reason: str) -> Decision:
    kind = Kind.UP if target > size else Kind.DOWN
    return Decision(kind=kind, size=size, target=target, reason=reason)


def _stay(kind: Kind, size: int, reason: str) -> Decision:
    return Decision(kind=kind, size=size, target=size, reason=reason)
