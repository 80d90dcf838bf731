"""A stack of its own for a test that breaks parts of it."""

from __future__ import annotations

from typing import Any

import httpx
import psutil

from fleet.cluster import status
from fleet.cluster.paths import Layout
from tests.stack_plugin import EmbeddedStack

QUICK = ("--no-llm", "--nodes=1", "--replicas=0")


class OwnStack(EmbeddedStack):
    """A stack that a test may hurt."""

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET with the demo key through HAProxy."""
        headers = {"Authorization": f"Bearer {self.demo_key}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=10, **options)

    def answers(self) -> bool:
        """Return whether a request that needs key, database and node succeeds."""
        try:
            return self.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def status(self) -> dict[str, Any]:
        """Return the status without the second that a command takes."""
        return status.read(Layout(state_dir=self.state_dir)).as_dict()

    def status_code(self) -> int:
        """Return what the exit code of `cluster status` would be."""
        return 0 if self.status()["url"] else 1

    def processes(self) -> list[psutil.Process]:
        """Return every process of the stack but `cluster up` itself."""
        recorded = [self.record()["supervisord"]["pid"]]
        found = psutil.Process(recorded[0])
        return [found, *found.children(recursive=True)]
