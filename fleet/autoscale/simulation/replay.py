"""Replay recorded traffic through the policies, on a fleet that is only arithmetic."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet.autoscale.decision import Decision, Snapshot, State, decide
from fleet.autoscale.policies import Policy
from fleet.autoscale.simulation.queueing import NodeModel, Served, serve

# What the model knows of a node. Memory is not of a kind with load.
MODELLED = frozenset(
    {"cpu_percent", "requests_per_minute", "latency_p95_ms", "queue_ms", "sessions"}
)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The nodes of a simulation: what each can do, how long a start and a draining take."""

    node: NodeModel
    start_seconds: float
    drain_seconds: float
    longest_wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One step; `size` nodes are wanted, of which `ready` answer."""

    at: float
    rate: float
    size: int
    ready: int
    served: Served


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A simulation in numbers."""

    requests: float
    refused: float
    node_hours: float
    least: int
    most: int
    changes: int
    worst_p95_seconds: float
    slow_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that happened."""

    moments: Sequence[Moment]
    decisions: Sequence[tuple[float, Decision]]
    ignored: Sequence[str]
    step_seconds: float

    def summary(self, *, slow_seconds: float) -> Summary:
        """Return the totals; a moment is slow when its p95 is over so many seconds."""
        step = self.step_seconds
        return Summary(
            requests=sum(m.rate for m in self.moments) * step,
            refused=sum(m.served.refused for m in self.moments) * step,
            node_hours=sum(m.size for m in self.moments) * step / 3600,
            least=min(m.size for m in self.moments),
            most=max(m.size for m in self.moments),
            changes=len(self.decisions),
            worst_p95_seconds=max(m.served.p95_seconds for m in self.moments),
            slow_seconds=sum(step for m in self.moments if m.served.p95_seconds > slow_seconds),
        )


def modelled(policy: Policy) -> tuple[Policy, list[str]]:
    """Return a policy without the rules that a simulation knows nothing about, and their names."""
    rules = tuple(rule for rule in policy.rules if rule.measure in MODELLED)
    ignored = sorted({r.measure for r in policy.rules if r.measure not in MODELLED})
    return replace(policy, rules=rules), ignored


def simulate(
    rates: Sequence[float], policy: Policy, fleet: Fleet, *, step_seconds: float, nodes: int
) -> Outcome:
    """Replay rates of one step each, beginning with so many nodes that are ready.

    As in the real loop nothing is decided while a change is under way: a start until the nodes
    answer, a shrinking until they are drained, during which they take no requests.
    """
    policy, ignored = modelled(policy)
    policy = replace(policy, stale_seconds=max(policy.stale_seconds, 2 * step_seconds))
    size = ready = min(max(nodes, policy.minimum), policy.maximum)
    state, busy_until, waiting = State(), 0.0, 0.0
    history: deque[Snapshot] = deque()
    moments, decisions = [], []
    for number, rate in enumerate(rates):
        at = number * step_seconds
        if at >= busy_until:
            ready = size
        served = serve(
            rate,
            nodes=ready,
            waiting=waiting,
            node=fleet.node,
            seconds=step_seconds,
            longest_wait_seconds=fleet.longest_wait_seconds,
        )
        waiting = served.waiting
        moments.append(Moment(at=at, rate=rate, size=size, ready=ready, served=served))
        now = at + step_seconds
        history.append(_snapshot(now, size, ready, served))
        while history[0].at < now - policy.longest_window_seconds - 2 * step_seconds:
            history.popleft()
        if now < busy_until:
            continue
        decision = decide(history, policy, state, now=now)
        if not decision.is_change or decision.target is None:
            continue
        state = state.after(decision, now=now)
        decisions.append((now, decision))
        grows = decision.target > size
        busy_until = now + (fleet.start_seconds if grows else fleet.drain_seconds)
        # What is new answers when it has started; what goes takes nothing from now on.
        size, ready = decision.target, min(ready, decision.target)
        # What was measured before is of another fleet.
        history.clear()
    return Outcome(moments=moments, decisions=decisions, ignored=ignored, step_seconds=step_seconds)


def _snapshot(at: float, size: int, ready: int, served: Served) -> Snapshot:
    sessions = (served.rate * served.mean_seconds) / max(1, size)
    return Snapshot(
        at=at,
        size=size,
        values={
            "cpu_percent": 100 * served.utilisation * ready / max(1, size),
            "requests_per_minute": 60 * (served.rate + served.refused) / max(1, size),
            "latency_p95_ms": 1000 * served.p95_seconds,
            "queue_ms": 1000 * served.queue_seconds,
            "sessions": sessions,
        },
    )
