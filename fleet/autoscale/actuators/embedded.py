"""Scale the nodes and workers of the embedded stack."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from django.conf import settings

from fleet.autoscale.errors import ActuatorError
from fleet.autoscale.policies import WEB, WORKERS
from fleet.cluster import lock
from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout
from fleet.cluster.processes import read_all
from fleet.cluster.scale import MAX_WORKERS, scale

logger = logging.getLogger(__name__)


class Embedded:
    """The stack of STATE_DIR."""

    def __init__(self) -> None:
        self._layout = Layout(state_dir=settings.STATE_DIR)

    def sizes(self) -> Mapping[str, int]:
        """Return how many nodes and workers supervisord runs."""
        if lock.holder(self._layout.lock_file) is None:
            raise ActuatorError(f"no stack is running (STATE_DIR={self._layout.state_dir})")
        kinds = Counter(spec.kind for spec in read_all(self._layout.specs_dir))
        return {WEB: kinds["node"], WORKERS: kinds["worker"]}

    def scale(self, targets: Mapping[str, int]) -> None:
        """Start what is missing; drain and stop what is too many.

        What is more than the stack may have is an error, after as many as it may have are there.
        """
        bounds = {WEB: (1, settings.MAX_NODES), WORKERS: (0, MAX_WORKERS)}
        allowed = {
            fleet: min(max(target, bounds[fleet][0]), bounds[fleet][1])
            for fleet, target in targets.items()
        }
        try:
            scale(
                self._layout,
                nodes=allowed.get(WEB),
                workers=allowed.get(WORKERS),
                on_progress=logger.info,
            )
        except ClusterError as error:
            raise ActuatorError(str(error)) from error
        if allowed != targets:
            raise ActuatorError(
                f"the stack may have 1 to {settings.MAX_NODES} nodes (MAX_NODES) and at most "
                f"{MAX_WORKERS} workers; bring the policies' minimum and maximum within that"
            )
