"""Parts of messages other than text: images, sounds and files.

Source: the request types of openai-python, `openai/types/chat/`. They are passed on to the
provider. An address is never fetched here: it could be one of our own network.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from django.conf import settings
from pydantic import Field

from chat.metrics import MEDIA_PARTS, MEDIA_REFUSED
from config.api.errors import InvalidRequest
from config.api.validation import RequestModel
from config.slices import in_slices

MAX_URL_CHARS = 8192
# Base64 that is longer is checked in slices, of groups of four characters and a millisecond or two.
LONG_CHARS = 64 * 1024
SLICE_CHARS = 512 * 1024
# Anchored and without nested repeats, so that a hostile head costs no more than its length.
DATA_URL = re.compile(r"data:([a-z]+)/[A-Za-z0-9.+-]{1,100};base64,")
BAD_BASE64 = "the data is not valid base64."
WEB_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)


class ImageUrl(RequestModel):
    """An image: `https:` for the provider to fetch, or a data URL."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class MediaPart(RequestModel):
    """A part other than text; `kind` is its type in chat completions."""

    kind: ClassVar[str]

    def payload(self) -> tuple[str, str]:
        """Return what the part holds, and the path of its field."""
        raise NotImplementedError

    def as_sent(self) -> dict[str, Any]:
        """Return the part as chat completions have it."""
        return self.model_dump(exclude_none=True)


class ImagePart(MediaPart):
    """An image in a user's message."""

    kind = "image_url"

    type: Literal["image_url"]
    image_url: ImageUrl

    def payload(self) -> tuple[str, str]:
        """Return the address or the data URL."""
        return "image_url.url", self.image_url.url


class InputAudio(RequestModel):
    """A sound in base64, and the name of its format: wav or mp3, for one."""

    data: str
    format: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")]


class AudioPart(MediaPart):
    """A sound in a user's message."""

    kind = "input_audio"

    type: Literal["input_audio"]
    input_audio: InputAudio

    def payload(self) -> tuple[str, str]:
        """Return the base64."""
        return "input_audio.data", self.input_audio.data


class FileData(RequestModel):
    """A file as a data URL. Files by `file_id` are the provider's, and those of all accounts."""

    file_data: str
    filename: Annotated[str, Field(max_length=256)] | None = None


class FilePart(MediaPart):
    """A file in a user's message."""

    kind = "file"

    type: Literal["file"]
    file: FileData

    def payload(self) -> tuple[str, str]:
        """Return the data URL."""
        return "file.file_data", self.file.file_data


def check_media(parts: Iterable[tuple[str, MediaPart]]) -> None:
    """Raise InvalidRequest that names the first part which is wrong, or one too many.

    Takes each part with its `param`. No message of an error repeats what the part holds. Base64 of
    more than LONG_CHARS is left to `check_long_media`: within pydantic nothing else can run.
    """
    size = 0
    kinds: list[str] = []
    for count, (param, part) in enumerate(parts, start=1):
        field, text = part.payload()
        size += len(text)
        count_media(size, count, param)
        if fault := _fault(part, text):
            raise InvalidRequest(f"{param}.{field}: {fault}", param=f"{param}.{field}")
        kinds.append(part.kind)
    for kind in kinds:
        MEDIA_PARTS.labels(kind).inc()


def count_media(media_bytes: int, count: int, param: str) -> None:
    """Raise InvalidRequest that names `param` for more parts or bytes than one request may have."""
    if count > settings.MAX_MEDIA_PARTS:
        raise _too_much("MAX_MEDIA_PARTS", "parts other than text", param)
    if media_bytes > settings.MAX_MEDIA_BYTES:
        raise _too_much("MAX_MEDIA_BYTES", "bytes of images, sounds and files", param)


def check_long_media(parts: Iterable[tuple[str, MediaPart]]) -> None:
    """Raise InvalidRequest for long base64 that is none; other greenlets run in between."""
    for param, part in parts:
        field, text = part.payload()
        if len(text) <= LONG_CHARS:
            continue
        start = text.find(",") + 1
        slices = list(range(start, len(text), SLICE_CHARS))
        for at in in_slices(slices, 1):
            piece = text[at : at + SLICE_CHARS]
            # Padding ends the data.
            is_torn = at != slices[-1] and "=" in piece
            if fault := BAD_BASE64 if is_torn else _base64_fault(piece):
                raise InvalidRequest(f"{param}.{field}: {fault}", param=f"{param}.{field}")


def _too_much(setting: str, noun: str, param: str) -> InvalidRequest:
    MEDIA_REFUSED.labels(setting).inc()
    return InvalidRequest(
        f"{param}: the messages together may have {getattr(settings, setting)} {noun} ({setting}).",
        param=param,
        code="too_much_media",
    )


def _fault(part: MediaPart, text: str) -> str | None:
    if part.kind == AudioPart.kind:
        return _base64_fault(text) if len(text) <= LONG_CHARS else None
    if part.kind == ImagePart.kind and not text.startswith("data:"):
        is_address = len(text) <= MAX_URL_CHARS and WEB_URL.fullmatch(text)
        return (
            None
            if is_address
            else f"must be an http(s) URL of at most {MAX_URL_CHARS} characters, or a data URL."
        )
    head = DATA_URL.match(text)
    if head is None:
        return "must be data:<type>/<subtype>;base64,<data>."
    if part.kind == ImagePart.kind and head[1] != "image":
        return "the data URL of an image must have the media type image/..."
    return _base64_fault(text[head.end() :]) if len(text) <= LONG_CHARS else None


def _base64_fault(text: str) -> str | None:
    try:
        is_empty = not binascii.a2b_base64(text, strict_mode=True)
    # binascii.Error is one, and so is that of a text beyond ASCII.
    except ValueError:
        return BAD_BASE64
    return "the data is empty." if is_empty else None
