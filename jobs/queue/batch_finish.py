"""Finish many jobs with few statements (group commit)."""

from __future__ import annotations

import threading
import uuid
from collections import deque

from django.db import DataError, IntegrityError

from jobs.queue.transitions import Finish, finish
from scaling.connections import release_connections

MAX_BATCH = 64
# Outputs and events may be megabytes; a statement holds no more than one beyond this.
MAX_BATCH_CHARS = 1_000_000


class FinishBatcher:
    """Writes jobs' ends; those that arrive while a statement is under way share the next one.

    So an idle worker writes each end at once, and a busy one pays for few statements and commits.
    """

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self.pending: deque[Pending] = deque()

    def write(self, finish: Finish) -> bool:
        """Finish a job; False if it was no longer in the state that is expected.

        Raises the database's errors; then the outcome is unknown, and the caller may repeat it.
        """
        mine = Pending(finish)
        self.pending.append(mine)
        with self._writing:
            # Earlier ones are written first, and may fill a batch.
            while not mine.is_over:
                write_batch(self._take())
        if mine.error is not None:
            raise mine.error
        return mine.is_written

    def _take(self) -> list[Pending]:
        batch = [self.pending.popleft()]
        chars = batch[0].chars
        while self.pending and len(batch) < MAX_BATCH and chars < MAX_BATCH_CHARS:
            batch.append(self.pending.popleft())
            chars += batch[-1].chars
        return batch


class Pending:
    """A job's end that waits to be written, and whether it was."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish
        self.is_over = False
        self.is_written = False
        self.error: Exception | None = None

    @property
    def chars(self) -> int:
        texts = sum(len(event["data"].get("text", "")) for event in self.finish.events)
        return len(self.finish.output or "") + texts

    def settle(self, finished: set[uuid.UUID]) -> None:
        self.is_over = True
        self.is_written = self.finish.job_id in finished

    def fail(self, error: Exception) -> None:
        self.is_over = True
        self.error = error


def write_batch(batch: list[Pending]) -> None:
    """Finish these jobs with one statement, or one by one if a row cannot be written."""
    try:
        finished = finish([pending.finish for pending in batch])
    except (DataError, IntegrityError, TypeError, ValueError) as error:
        # One of them cannot be written; it alone must fail.
        if len(batch) == 1:
            batch[0].fail(error)
            return
        for pending in batch:
            write_batch([pending])
    # Every caller in the batch gets the error, of any kind.
    except Exception as error:
        for pending in batch:
            pending.fail(error)
    else:
        for pending in batch:
            pending.settle(finished)
    finally:
        release_connections()


FINISH_BATCHER = FinishBatcher()
