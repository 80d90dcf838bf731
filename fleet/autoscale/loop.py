"""Measure, decide, act; again and again, and never in two processes at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet.autoscale import history
from fleet.autoscale.actuators import Actuator
from fleet.autoscale.decision import Decision, Kind, Snapshot, State, decide
from fleet.autoscale.errors import AutoscaleError
from fleet.autoscale.executor import ActionExecutor
from fleet.autoscale.history import Entry
from fleet.autoscale.lease import Lease
from fleet.autoscale.metrics import DECISIONS, FAILURES, LEADER, SIZE, TARGET
from fleet.autoscale.policies import Policies
from fleet.autoscale.sources import Source
from scaling.redis_client import RedisUnavailable

logger = logging.getLogger(__name__)

# After a change that failed.
RETRY_SECONDS = 10.0
# supervisord waits three.
STOP_SECONDS = 2.0


class Loop:
    """One autoscaler.

    Without a lease it only looks: it decides, and neither acts nor writes anything down. With one
    it acts while it holds it. A failure is reported once, counted, and retried at the next tick.
    """

    def __init__(
        self,
        *,
        policies: Policies,
        source: Source,
        actuator: Actuator,
        lease: Lease | None,
        on_progress: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.policies = policies
        self.source = source
        self.executor = ActionExecutor(actuator)
        self.lease = lease
        self._on_progress = on_progress
        self._clock = clock
        self._snapshots: dict[str, list[Snapshot]] = {fleet: [] for fleet in policies}
        self._states = dict.fromkeys(policies, State())
        self._written: dict[str, Entry] = {}
        self._said: dict[str, str] = {}
        self._step = ""
        self._retry_at = 0.0
        self._is_leader = False

    def run(self, stop: threading.Event, *, seconds: float) -> None:
        """Tick every so many seconds until the stop is requested."""
        while not stop.is_set():
            self.tick()
            stop.wait(seconds)
        self.close()

    def close(self) -> None:
        """Release the lease, unless a change is still under way: then it expires by itself."""
        if self.executor.wait(STOP_SECONDS) and self.lease:
            self.lease.release()
        LEADER.set(0)

    def tick(self) -> dict[str, Decision]:
        """Go round once; return what was decided by fleet, nothing when it could not be."""
        try:
            return self._tick()
        except (AutoscaleError, RedisUnavailable) as error:
            self._fail(str(error))
        # The outermost tick of the loop: no failure may end it.
        except Exception:
            logger.exception("the autoscaler's step %s failed", self._step)
            FAILURES.labels(self._step).inc()
        return {}

    def _tick(self) -> dict[str, Decision]:
        with self._in("lease"):
            if not self._may_act():
                return {}
        with self._in("count"):
            sizes = self.executor.actuator.sizes()
        with self._in("measure"):
            measured = self.source.measure(sizes)
            self._report("measure", "; ".join(measured.problems))
        now = self._clock()
        for fleet in self.policies:
            snapshot = Snapshot(at=now, size=sizes[fleet], values=measured.values.get(fleet, {}))
            SIZE.labels(fleet).set(snapshot.size)
            self._remember(fleet, snapshot)
        if error := self.executor.take_error():
            self._retry_at = now + RETRY_SECONDS
            self._report("act", error)
        if self.executor.is_busy:
            return {}
        with self._in("decide"):
            decisions = {
                fleet: decide(self._snapshots[fleet], policy, self._states[fleet], now=now)
                for fleet, policy in self.policies.items()
            }
        for fleet, decision in decisions.items():
            DECISIONS.labels(fleet, decision.kind.value).inc()
            if decision.target is not None:
                TARGET.labels(fleet).set(decision.target)
            self._report(fleet, _sentence(decision), key=str((decision.kind, decision.target)))
        self._act(decisions, now)
        return decisions

    def _may_act(self) -> bool:
        """Acquire or renew the lease; read the previous holder's history when it is new."""
        if self.lease is None:
            return True
        is_leader = self.lease.acquire()
        LEADER.set(is_leader)
        if not is_leader:
            self._report("lease", "another autoscaler holds the lease; waiting for it")
        elif not self._is_leader:
            self._report("lease", "this autoscaler holds the lease")
            for fleet in self.policies:
                self._snapshots[fleet] = history.read_snapshots(fleet)
                entries = history.read(fleet)
                self._states[fleet] = history.last_state(entries)
                if entries:
                    self._written[fleet] = entries[0]
        self._is_leader = is_leader
        return is_leader

    def _remember(self, fleet: str, snapshot: Snapshot) -> None:
        policy = self.policies[fleet]
        # One from before the window shows that the window is complete.
        oldest = snapshot.at - policy.longest_window_seconds - policy.stale_seconds
        # After the clock was set back, the later ones are of a time that is still to come.
        recent = [s for s in self._snapshots[fleet] if oldest <= s.at < snapshot.at]
        self._snapshots[fleet] = [*recent, snapshot]
        if self.lease:
            self._write(lambda: history.add_snapshot(fleet, snapshot))

    def _act(self, decisions: dict[str, Decision], now: float) -> None:
        is_late = self.lease is not None and not self.lease.is_held
        if self.lease is None or is_late:
            return
        may_change = now >= self._retry_at
        targets = {
            fleet: decision.target
            for fleet, decision in decisions.items()
            if decision.is_change and decision.target is not None and may_change
        }
        for fleet, decision in decisions.items():
            if decision.is_change and not may_change:
                continue
            self._states[fleet] = self._states[fleet].after(decision, now=now)
            entry = Entry.of(fleet, decision, self._snapshots[fleet][-1])
            if entry.is_new(self._written.get(fleet)):
                self._written[fleet] = entry
                self._write(lambda entry=entry: history.add(entry))  # type: ignore[misc]
        if targets:
            self.executor.start(targets)

    def _write(self, work: Callable[[], None]) -> None:
        """Write to the history; a failure to write must not stop the scaling."""
        try:
            work()
        except RedisUnavailable as error:
            FAILURES.labels("record").inc()
            logger.warning("the autoscaler's history is not stored: %s", error)

    @contextmanager
    def _in(self, step: str) -> Iterator[None]:
        self._step = step
        yield
        # Said again if it fails again.
        self._said.pop(f"{step} failed", None)

    def _fail(self, text: str) -> None:
        FAILURES.labels(self._step).inc()
        self._report(f"{self._step} failed", text)

    def _report(self, topic: str, text: str, *, key: str | None = None) -> None:
        """Report a line unless it was the last one of its topic."""
        key = text if key is None else key
        if self._said.get(topic) != key:
            self._said[topic] = key
            if text:
                self._on_progress(f"{topic}: {text}")


def _sentence(decision: Decision) -> str:
    if decision.is_change:
        return f"from {decision.size} to {decision.target}: {decision.reason}"
    size = "" if decision.kind is Kind.MISSING and decision.size is None else f"{decision.size}, "
    return f"stays at {size}{decision.reason}" if size else decision.reason
