"""Read `multipart/form-data`, files into temporary ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent, TooManyFilesSent
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters
from rest_framework.parsers import BaseParser, DataAndFiles

from jobs.documents.errors import DocumentTooLarge, InvalidForm
from jobs.documents.received import Pauses, ReceivedFileHandler, full_disk_refused
from scaling.connections import release_connections

# The file and ten fields, with room for unknown ones, which are refused by name.
MAX_PARTS = 32


class UploadParser(BaseParser):
    """Read a form of at most MAX_UPLOAD_BYTES with fields of at most MAX_BODY_BYTES.

    Releases the database connections first: an upload may take minutes. Raises DocumentTooLarge,
    InvalidForm, StorageFull, and Django's error for too large fields; no file is left then.
    """

    media_type = "multipart/form-data"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> DataAndFiles[Any, Any]:
        """Return the fields and the files."""
        request = (parser_context or {})["request"]
        # Django's error for a missing or strange boundary is not specific.
        _, options = parse_header_parameters(request.META["CONTENT_TYPE"])
        boundary = f"--{options.get('boundary', '')}".encode("ascii", "replace")
        handler = ReceivedFileHandler()
        body: Any = _Body(stream, boundary)
        release_connections()
        try:
            with full_disk_refused():
                fields, files = MultiPartParser(request.META, body, [handler], "utf-8").parse()
            # Django takes a form that breaks off for a complete one.
            if not body.ends_with(boundary + b"--"):
                raise InvalidForm("The form is incomplete; its closing boundary is missing.")
        except MultiPartParserError as error:
            handler.close()
            raise InvalidForm(f"The form could not be read: {str(error)[:200]}") from error
        except (TooManyFieldsSent, TooManyFilesSent) as error:
            handler.close()
            raise InvalidForm("The form has too many fields.") from error
        except BaseException:
            handler.close()
            raise
        return DataAndFiles(fields, files)


class _Body:
    """A request's body: counted, its boundaries too, with its end remembered."""

    # Room for the boundary (201 bytes at most), its dashes, and white space.
    TAIL_BYTES = 256

    def __init__(self, stream: IO[Any], boundary: bytes) -> None:
        self._stream = stream
        self._boundary = boundary
        self._count = 0
        self._boundaries = 0
        self._tail = b""
        self._pauses = Pauses()

    def read(self, size: int = -1) -> bytes:
        # Django's work on it costs more than the reading, and with a quick client neither waits.
        self._pauses.take()
        data: bytes = self._stream.read(size)
        self._count += len(data)
        if self._count > settings.MAX_UPLOAD_BYTES:
            raise DocumentTooLarge
        if data:
            self._count_boundaries(data)
            self._tail = (self._tail + data)[-self.TAIL_BYTES :]
        return data

    def ends_with(self, text: bytes) -> bool:
        return text in self._tail

    def _count_boundaries(self, data: bytes) -> None:
        """Refuse many parts before Django reads their headers, milliseconds for each."""
        # One may have begun in the part before.
        begun = self._tail[-(len(self._boundary) - 1) :]
        self._boundaries += (begun + data).count(self._boundary)
        # The last one ends the form.
        if self._boundaries > MAX_PARTS + 1:
            raise InvalidForm(f"The form has more than {MAX_PARTS} parts.")
