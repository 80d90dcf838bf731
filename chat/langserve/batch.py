"""Several inputs of one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import gevent

from chat.running.execution import spawn
from chat.running.run import Run
from config.api.errors import ApiError
from scaling.connections import release_connections

T = TypeVar("T")


class BatchRun(Run):
    """The runs of a batch, which count as one for a request's limits.

    All have the same deadline. Usage is counted in `items` alone.
    """

    def __init__(self, *, timeout_seconds: float, size: int) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self.items = [Run(timeout_seconds=timeout_seconds) for _ in range(size)]

    def cancel(self) -> None:
        """Cancel every run."""
        super().cancel()
        for item in self.items:
            item.cancel()

    def billed_tokens(self) -> int:
        """Return the tokens of all runs."""
        return sum(item.billed_tokens() for item in self.items)


def run_batch(items: Sequence[Callable[[], T]], *, concurrency: int) -> list[T]:
    """Return the results of the items, in their order; `concurrency` of them run at a time.

    The first failure aborts all the others and is raised (ApiError).
    """
    release_connections()
    outputs: dict[int, T] = {}
    todo = iter(enumerate(items))

    def work() -> ApiError | None:
        for index, item in todo:
            try:
                outputs[index] = item()
            except ApiError as error:
                return error
        return None

    workers = [spawn(work) for _ in range(min(concurrency, len(items)))]
    try:
        for worker in gevent.iwait(workers):
            if (error := worker.get()) is not None:
                raise error
    finally:
        gevent.killall(workers, block=False)
    return [outputs[index] for index in range(len(items))]
