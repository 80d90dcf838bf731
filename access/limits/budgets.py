"""Bounds on the part of a node that one caller holds: slots of a key, an account, the process."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import prometheus_client
from django.conf import settings

from access.errors import BudgetExceeded, NodeBudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Hashable

    from access.principal import Principal

REFUSED = prometheus_client.Counter(
    "headrace_budget_refused",
    "Requests refused because as many of their kind were open here as a setting allows.",
    ["budget", "scope"],
)
USED = prometheus_client.Gauge(
    "headrace_budget_used", "Amount of a budget that is in use in this process.", ["budget"]
)
SCOPES = ("key", "account", "node")


class Budget:
    """Slots of one kind in this process, of which a key and an account may hold a part.

    Each size is a setting's name, read at every call; 0 there is no limit. The bound protects the
    memory and the sockets of this process, so the count needs no other process and is exact.
    """

    def __init__(self, name: str, *, key: str, account: str, node: str) -> None:
        self.name = name
        self._settings = {"key": key, "account": account, "node": node}
        self._lock = threading.Lock()
        self._used: Counter[tuple[str, Hashable]] = Counter()
        for scope in SCOPES:
            REFUSED.labels(name, scope)
        USED.labels(name).set(0)

    def take(self, principal: Principal) -> Slot:
        """Return a slot of the caller's.

        Raises BudgetExceeded (429) where its key or account holds all of its own, and
        NodeBudgetExceeded (503) where all callers together hold those of the process.
        """
        holders: dict[str, Hashable] = {
            "key": principal.key_id,
            "account": principal.account_id,
            "node": "",
        }
        with self._lock:
            for scope, holder in holders.items():
                size = int(getattr(settings, self._settings[scope]))
                if size and self._used[scope, holder] >= size:
                    raise self._refusal(scope, size)
            self._used.update(holders.items())
        USED.labels(self.name).inc()
        return Slot(self, holders)

    def used(self, scope: str, holder: Hashable = "") -> int:
        """Return how many slots a key, an account or the process (`node`) holds."""
        return self._used[scope, holder]

    def _refusal(self, scope: str, size: int) -> BudgetExceeded | NodeBudgetExceeded:
        REFUSED.labels(self.name, scope).inc()
        if scope == "node":
            return NodeBudgetExceeded(self.name, allowed=size, setting=self._settings[scope])
        return BudgetExceeded(self.name, scope=scope, allowed=size, setting=self._settings[scope])

    def _release(self, holders: dict[str, Hashable]) -> None:
        with self._lock:
            for item in holders.items():
                self._used[item] -= 1
                if self._used[item] <= 0:
                    del self._used[item]
        USED.labels(self.name).dec()


class Slot:
    """A part of a budget, until `release`; one that is collected without it is released too."""

    __slots__ = ("_budget", "_holders")

    def __init__(self, budget: Budget, holders: dict[str, Hashable]) -> None:
        self._budget: Budget | None = budget
        self._holders = holders

    def release(self) -> None:
        """Return the slot to its budget; the second call does nothing."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._release(self._holders)

    def __del__(self) -> None:
        self.release()


STREAMS = Budget(
    "streams",
    key="MAX_STREAMS_PER_KEY",
    account="MAX_STREAMS_PER_ACCOUNT",
    node="MAX_STREAMS_PER_NODE",
)
