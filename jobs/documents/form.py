"""From a form with a file to a job's submission."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from rest_framework.request import Request

from chat.chains.catalog import get_chain
from chat.chains.registry import BuiltChain, ChatInput
from chat.errors import ChainNotFound
from config import exact_json
from config.api.content_encoding import refuse_encoded
from config.api.errors import ApiError, InvalidRequest
from config.api.json import loads
from config.api.validation import parse
from jobs.documents.errors import NotOneFile
from jobs.documents.original import Original, discarded_on_failure
from jobs.documents.parser import UploadParser
from jobs.documents.reading import read_document
from jobs.documents.received import ReceivedFile
from jobs.documents.uploads import UPLOADS, most_bytes
from jobs.schemas import JobOptions, submission_options
from jobs.services import Submission

MAX_NAME_CHARS = 200
NUMBERS = ("priority", "timeout_seconds", "max_attempts")
JSON_TEXTS = ("metadata", "input")
NUMBER = re.compile(r"-?[0-9]{1,9}", re.ASCII)
# The form as OpenAPI has it: every field is a text, but for the file.
FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "A PDF, or plain text or Markdown in UTF-8.",
        },
        "chain": {"type": "string", "minLength": 1, "maxLength": 64},
        "input": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "An object to which the document's text is added.",
        },
        "metadata": {"type": "string", "contentMediaType": "application/json"},
        "webhook_url": {"type": "string", "format": "uri", "maxLength": 2000},
        "notify_email": {"type": "string", "format": "email", "maxLength": 254},
        "priority": {"type": "integer"},
        "run_at": {"type": "string", "format": "date-time"},
        "timeout_seconds": {"type": "integer", "minimum": 1},
        "max_attempts": {"type": "integer", "minimum": 1},
    },
    "required": ["file", "chain"],
    "additionalProperties": False,
}


class JobForm(JobOptions):
    """The fields of the form, without `file`."""

    chain: Annotated[str, Field(min_length=1, max_length=64)]
    input: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A submission with a file, and the bytes that identify a repeated request."""

    submission: Submission
    identity: bytes


def is_form(request: Request) -> bool:
    """Return whether a request's body is declared as a form, by which the parser is chosen."""
    kind = (request.content_type or "").split(";")[0].strip().lower()
    return kind == UploadParser.media_type


@contextmanager
def read_upload(request: Request, *, account_id: UUID) -> Iterator[Upload]:
    """Read a form's fields and its document; the block submits it.

    The room for the form is reserved before its first byte is read, and free after the block, with
    the temporary file. When the block fails, no file is left in the storage. Raises
    AccountUploadsExceeded, UploadsBusy, StorageFull, InvalidRequest, ChainNotFound and the errors
    of `read_document`.
    """
    refuse_encoded(request.headers.get("Content-Encoding", ""))
    with UPLOADS.reserve(account_id, most_bytes(request.META)):
        # Reads the form.
        files = request.FILES
        try:
            upload, original = _read(request, account_id)
            with discarded_on_failure(original):
                yield upload
        finally:
            for _, received in files.lists():
                for file in received:
                    file.close()


def _read(request: Request, account_id: UUID) -> tuple[Upload, Original]:
    fields = _fields(request)
    form = parse(JobForm, _typed(fields))
    file = _only_file(request)
    try:
        chain = get_chain(form.chain)
    except ChainNotFound as error:
        raise ChainNotFound(form.chain, param="chain") from error
    set_text = _text_setter(chain, form.input)
    document = read_document(file, account_id=account_id)
    name = clean_name(file.name or "", suffix=document.suffix)
    original = Original(file, suffix=document.suffix)
    submission = Submission(
        chain=form.chain,
        input=set_text(document.text),
        **submission_options(form),
        file=original,
        file_name=name,
        file_bytes=file.size,
        file_pages=document.pages,
        file_pages_incomplete=document.pages_incomplete,
    )
    # An empty field counts as not sent.
    sent = sorted((name, value) for name, value in fields.items() if value)
    identity = exact_json.dumps([sent, name, _digest(file)])
    return Upload(submission=submission, identity=identity), original


def clean_name(name: str, *, suffix: str) -> str:
    """Return a name that is safe to show: one line, no path, no characters that hide others.

    Long names are cut, but not their suffix; an empty one becomes `document`.
    """
    name = unicodedata.normalize("NFC", PurePath(name.replace("\\", "/")).name)
    # Categories C*: control characters, and those that turn the direction of writing around.
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").strip()
    if not name.strip(". "):
        return f"document{suffix}"
    if len(name) > MAX_NAME_CHARS:
        end = PurePath(name).suffix[:20]
        name = name[: MAX_NAME_CHARS - len(end)] + end
    return name


def _fields(request: Request) -> dict[str, str]:
    for name, values in request.POST.lists():
        if len(values) > 1:
            raise InvalidRequest("A field may come once.", param=str(name)[:MAX_NAME_CHARS])
    return {str(name): str(value) for name, value in request.POST.items()}


def _only_file(request: Request) -> ReceivedFile:
    found = [(name, file) for name, files in request.FILES.lists() for file in files]
    if len(found) != 1 or found[0][0] != "file" or "file" in request.POST:
        raise NotOneFile
    file: ReceivedFile = found[0][1]
    return file


def _typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields as their JSON values; forms send an empty text for a missing one."""
    typed: dict[str, Any] = {}
    for name, text in fields.items():
        # `_only_file` refuses one that is no file.
        if (name != "chain" and not text) or name == "file":
            continue
        if name in NUMBERS and NUMBER.fullmatch(text):
            typed[name] = int(text)
        elif name in JSON_TEXTS:
            typed[name] = _from_json(name, text)
        else:
            typed[name] = text
    return typed


def _from_json(name: str, text: str) -> Any:
    try:
        return loads(text.encode())
    except ApiError as error:
        raise InvalidRequest(
            f"{name} must be the JSON text of an object: {error.message}",
            param=name,
            code="invalid_json",
        ) from error


def _text_setter(chain: BuiltChain, fields: dict[str, Any] | None) -> Any:
    """Return a function that puts a text where the chain takes it: alone, or among other input."""
    key = chain.text_key if chain.chat_input is ChatInput.TEXT else "text"
    if not key:
        if fields is not None:
            raise InvalidRequest("The chain accepts no other input than the text.", param="input")
        return lambda text: text
    if fields and key in fields:
        raise InvalidRequest(
            f"The document's text is put there; leave out {key}.", param=f"input.{key}"
        )
    return lambda text: {**(fields or {}), key: text}


def _digest(file: ReceivedFile) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.hexdigest()
