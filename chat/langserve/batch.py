"""Several inputs of one request."""

from __future__ import annotations

from typing import Any

import gevent

from chat.client_socket import ClientSocket
from chat.execution import Call, invoke
from chat.run import Run
from config.errors import ApiError
from scaling.database import release_connections


class BatchRun(Run):
    """The runs of a batch, which a request's limits see as one.

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


def invoke_batch(calls: list[Call], client: ClientSocket, *, concurrency: int) -> list[Any]:
    """Return the outputs in the order of the calls, `concurrency` of which run at a time.

    The first failure aborts all the others and is raised (ApiError).
    """
    release_connections()
    outputs: list[Any] = [None] * len(calls)
    todo = iter(enumerate(calls))

    def work() -> ApiError | None:
        for index, call in todo:
            try:
                outputs[index] = invoke(call, client)
            except ApiError as error:
                return error
        return None

    workers = [gevent.spawn(work) for _ in range(min(concurrency, len(calls)))]
    try:
        for worker in gevent.iwait(workers):
            if (error := worker.get()) is not None:
                raise error
    finally:
        gevent.killall(workers, block=False)
    return outputs
