"""A reader of documents that were not uploaded."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator

import pytest

from config.api.errors import ApiError
from jobs.documents.reading import Document, read_document
from jobs.documents.received import ReceivedFile

Read = Callable[..., Document]
ACCOUNT = uuid.uuid4()


@pytest.fixture
def read() -> Iterator[Read]:
    """Return a reader of bytes as if they had been uploaded."""
    files = []

    def read(
        data: bytes,
        name: str = "a.pdf",
        content_type: str = "",
        *,
        account_id: uuid.UUID = ACCOUNT,
    ) -> Document:
        file = ReceivedFile(tempfile.TemporaryFile(), name, content_type, len(data))  # noqa: SIM115
        files.append(file)
        file.write(data)
        file.flush()
        return read_document(file, account_id=account_id)

    yield read
    for file in files:
        file.close()


def code_of(read: Read, *arguments: object) -> tuple[int, str | None]:
    """Return the status and the code of a refusal."""
    with pytest.raises(ApiError) as caught:
        read(*arguments)
    assert caught.value.param in ("file", None)
    return caught.value.status, caught.value.code
