"""The file of an upload."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import gevent
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from jobs.documents import metrics
from jobs.documents.errors import NotOneFile, StorageFull

PAUSE_SECONDS = 0.02


class Pauses:
    """Turns for the loop's other greenlets during work that never waits."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PAUSE_SECONDS

    def take(self) -> None:
        """Yield to other greenlets if they have waited for PAUSE_SECONDS."""
        if time.monotonic() >= self._next:
            gevent.sleep(0)
            self._next = time.monotonic() + PAUSE_SECONDS


class ReceivedFile(UploadedFile[bytes]):
    """An uploaded file without a name in the file system.

    However the request or the process ends, the kernel frees its room.
    """

    def close(self) -> None:
        """Free its room."""
        # The buffer that a full disk refused is written once more, in vain.
        with contextlib.suppress(OSError):
            super().close()

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yield the content, with turns for other requests."""
        pauses = Pauses()
        for chunk in super().chunks(chunk_size):
            yield chunk
            pauses.take()


class ReceivedFileHandler(FileUploadHandler):
    """Write the one file of a form; a second one is refused when it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.file: ReceivedFile | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Begin a file."""
        super().new_file(*args, **kwargs)
        if self.file is not None:
            raise NotOneFile
        self.file = ReceivedFile(
            tempfile.TemporaryFile(),  # noqa: SIM115  (`close` closes it)
            self.file_name,
            self.content_type,
            0,
            self.charset,
            self.content_type_extra,
        )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write a part of it."""
        assert self.file is not None  # noqa: S101  (it has begun)
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> ReceivedFile | None:
        """Return the complete file."""
        assert self.file is not None  # noqa: S101  (it has begun)
        # Writes the buffer, for readers of its descriptor.
        self.file.seek(0)
        self.file.size = file_size
        return self.file

    def close(self) -> None:
        """Free the file's room."""
        if self.file is not None:
            self.file.close()


@contextlib.contextmanager
def full_disk_refused() -> Iterator[None]:
    """Raise StorageFull (507) where the disk of uploads or of originals has no more room."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        metrics.UPLOADS_REFUSED.labels("disk").inc()
        raise StorageFull from error
