"""Write the ends of many jobs with few statements."""

from __future__ import annotations

import threading
import uuid
from collections import deque

from django.db import DataError, IntegrityError

from jobs.queue.transitions import Ending, end
from scaling.connections import release_connections

MAX_BATCH = 64
# Outputs may be megabytes; a statement holds no more than one beyond this.
MAX_BATCH_CHARS = 1_000_000


class Endings:
    """The ends that come while a statement is under way share the next one.

    So an idle worker writes each end at once, and a busy one pays for few statements and commits.
    """

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def write(self, ending: Ending) -> bool:
        """End a job; False if it was no longer in the state that is expected.

        Raises what the database raises; then nobody knows, and the caller may try again.
        """
        mine = _Waiting(ending)
        self._waiting.append(mine)
        with self._writing:
            # What came before is written first, and may fill a batch.
            while not mine.is_over:
                _write(self._take())
        if mine.error is not None:
            raise mine.error
        return mine.is_written

    def _take(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        chars = batch[0].chars
        while self._waiting and len(batch) < MAX_BATCH and chars < MAX_BATCH_CHARS:
            batch.append(self._waiting.popleft())
            chars += batch[-1].chars
        return batch


class _Waiting:
    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.is_over = False
        self.is_written = False
        self.error: Exception | None = None

    @property
    def chars(self) -> int:
        return len(self.ending.output or "")

    def settle(self, ended: set[uuid.UUID]) -> None:
        self.is_over = True
        self.is_written = self.ending.job_id in ended

    def fail(self, error: Exception) -> None:
        self.is_over = True
        self.error = error


def _write(batch: list[_Waiting]) -> None:
    try:
        ended = end([waiting.ending for waiting in batch])
    except (DataError, IntegrityError, TypeError, ValueError) as error:
        # One of them cannot be written; it alone must fail.
        if len(batch) == 1:
            batch[0].fail(error)
            return
        for waiting in batch:
            _write([waiting])
    # Each of the waiting learns of it, whatever it is.
    except Exception as error:
        for waiting in batch:
            waiting.fail(error)
    else:
        for waiting in batch:
            waiting.settle(ended)
    finally:
        release_connections()


ENDINGS = Endings()
