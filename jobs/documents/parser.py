"""Read `multipart/form-data`, files into temporary ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters
from rest_framework.parsers import BaseParser, DataAndFiles

from jobs.documents.errors import DocumentTooLarge, InvalidForm
from scaling.database import release_connections


class UploadParser(BaseParser):
    """Read a form of at most MAX_UPLOAD_BYTES with fields of at most MAX_BODY_BYTES.

    Gives the database connections back first: an upload may take minutes. Raises DocumentTooLarge,
    InvalidForm, and what Django raises for too large fields.
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
        handlers = [TemporaryFileUploadHandler(request)]
        body: Any = _Body(stream)
        release_connections()
        try:
            parser = MultiPartParser(request.META, body, handlers, "utf-8")
            fields, files = parser.parse()
        except MultiPartParserError as error:
            raise InvalidForm(f"The form could not be read: {str(error)[:200]}") from error
        except (TooManyFieldsSent, TooManyFilesSent) as error:
            raise InvalidForm("The form has too many fields.") from error
        # Django takes a form that breaks off for one that is over.
        _, options = parse_header_parameters(request.META["CONTENT_TYPE"])
        if not body.ends_with(f"--{options['boundary']}--".encode()):
            raise InvalidForm("The form breaks off; its closing boundary did not come.")
        return DataAndFiles(fields, files)


class _Body:
    """A request's body, counted, with its end remembered."""

    # Room for the boundary (201 bytes at most), its dashes, and white space.
    TAIL_BYTES = 256

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream
        self._count = 0
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._count += len(data)
        if self._count > settings.MAX_UPLOAD_BYTES:
            raise DocumentTooLarge
        if data:
            self._tail = (self._tail + data)[-self.TAIL_BYTES :]
        return data

    def ends_with(self, text: bytes) -> bool:
        return text in self._tail
