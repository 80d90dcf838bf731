"""Response times of a fleet: a fluid queue, and M/M/c for the chance within it.

Autoscaling is about the minutes in which more comes than can be served. There M/M/c, which knows
only the equilibrium, has no answer, and a fluid queue is exact for means: what comes in less what
goes out piles up. But a fluid has no waiting at all below capacity, where chance makes some. So
the longer of two times counts: to work off the pile, and the waiting of M/M/c at this load.

M/M/c by Sakasegawa's formula, which is within some percent of Erlang's and takes the same time for
ten thousand servers as for one. Source: H. Sakasegawa, "An approximation formula Lq = a*rho^b/
(1-rho)", Annals of the Institute of Statistical Mathematics 29 (1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Nearer to 1 the equilibrium would take longer to come than any load stays the same.
MAX_UTILISATION = 0.95
TAIL = 0.05


@dataclass(frozen=True, kw_only=True)
class NodeModel:
    """A node's capacity: requests a second, and the time of one when nothing waits."""

    requests_per_second: float
    service_seconds: float

    @property
    def slots(self) -> float:
        """Requests in work at a time when it is full (Little's law)."""
        return max(1.0, self.requests_per_second * self.service_seconds)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A step: what was done and refused a second, what waits at its end, and how long it takes."""

    rate: float
    refused: float
    waiting: float
    queue_seconds: float
    mean_seconds: float
    p95_seconds: float
    utilisation: float


def serve(
    rate: float,
    *,
    nodes: int,
    waiting: float,
    node: NodeModel,
    seconds: float,
    longest_wait_seconds: float,
) -> Served:
    """Return what a fleet does with so many requests a second during a step.

    Who would wait longer than `longest_wait_seconds` is refused, as HAProxy does.
    """
    capacity = nodes * node.requests_per_second
    arrived = waiting + rate * seconds
    done = min(arrived, capacity * seconds)
    waiting = arrived - done
    most = capacity * longest_wait_seconds
    refused = max(0.0, waiting - most)
    waiting -= refused
    utilisation = done / (capacity * seconds) if capacity else 1.0
    pile = waiting / capacity if capacity else longest_wait_seconds
    chance, tail = _chance(rate, nodes, node) if nodes else (0.0, 0.0)
    return Served(
        rate=done / seconds,
        refused=refused / seconds,
        waiting=waiting,
        queue_seconds=min(max(pile, chance), longest_wait_seconds),
        mean_seconds=node.service_seconds + min(max(pile, chance), longest_wait_seconds),
        p95_seconds=node.service_seconds + min(max(pile, tail), longest_wait_seconds),
        utilisation=utilisation,
    )


def _chance(rate: float, nodes: int, node: NodeModel) -> tuple[float, float]:
    """Return the mean waiting of M/M/c, and what 95 of 100 requests wait at most."""
    capacity = nodes * node.requests_per_second
    load = min(rate / capacity, MAX_UTILISATION)
    if load <= 0:
        return 0.0, 0.0
    servers = nodes * node.slots
    each = servers / capacity
    mean = each * load ** (math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - load))
    # In M/M/c the waiting of those who wait at all is exponential, with this mean.
    scale = 1 / (capacity * (1 - load))
    share = min(1.0, mean / scale)
    return mean, max(0.0, scale * math.log(share / TAIL)) if share > TAIL else 0.0
