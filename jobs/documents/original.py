"""The uploaded file itself, stored with its job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jobs.documents.received import ReceivedFile, full_disk_refused
from jobs.models import Job


class Original:
    """A file that `services.submit` stores under the job's own name.

    A client's name for it never reaches the storage: it is shown, and nothing else.
    """

    def __init__(self, file: ReceivedFile, *, suffix: str) -> None:
        self._file = file
        self._suffix = suffix
        self._job: Job | None = None

    def save_for(self, job: Job) -> None:
        """Save the file; the job's row must still be saved. Raises StorageFull."""
        name = f"{job}{self._suffix}"
        try:
            with full_disk_refused():
                job.file.save(name, self._file, save=False)
        except BaseException:
            # A part of it may have been written.
            with contextlib.suppress(OSError):
                job.file.storage.delete(job.file.field.generate_filename(job, name))
            raise
        self._job = job

    def discard(self) -> None:
        """Delete the file if it was saved."""
        if self._job is not None:
            self._job.file.delete(save=False)
            self._job = None


@contextlib.contextmanager
def discarded_on_failure(original: Original) -> Iterator[None]:
    """Delete the saved file if its job is not committed."""
    try:
        yield
    except BaseException:
        original.discard()
        raise
