"""Bodies as large as those with images may be: images, what looks like them, and what does not."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attack import Attack

MAX_MEDIA_BODY_BYTES = 20 * 1024 * 1024
MAX_MEDIA_BYTES = 16 * 1024 * 1024
SIZE = MAX_MEDIA_BODY_BYTES - 1000
HEAD = b"data:image/png;base64,"
PART = b'{"type":"image_url","image_url":{"url":"%b"}}'
PARTS = {
    "an image": PART % (HEAD + b"QUJD" * (MAX_MEDIA_BYTES // 4 - 100)),
    "an image, escaped": PART % (HEAD + b"QU\\/D" * (MAX_MEDIA_BYTES // 5 - 100)),
    "an image of escapes": PART % (HEAD + b"\\u0041" * (SIZE // 6 - 100)),
    "an image of digits": PART % (HEAD + b"1111" * (MAX_MEDIA_BYTES // 4 - 100)),
    "fifty images": b",".join([PART % (HEAD + b"QUJD" * 80_000)] * 50),
    "no base64": PART % (HEAD + b"QUJD" * (MAX_MEDIA_BYTES // 4 - 100) + b"!"),
    "many short images": b",".join([PART % (HEAD + b"QUJD" * 4100)] * 1200),
    "an address": PART % (b"https://example.org/" + b"a" * SIZE),
}
VALUES = {
    "numbers": b"[" + b"1," * (SIZE // 2) + b"1]",
    "empty texts": b"[" + b'"",' * (SIZE // 3) + b'""]',
    "objects": b"[" + b"{}," * (SIZE // 3) + b"{}]",
    "one number": b"1" * SIZE,
    "one text": b'"' + b"A" * SIZE + b'"',
    "a text of commas": b'"' + b"," * SIZE + b'"',
    "a text of quotation marks": b'"' + b'\\"' * (SIZE // 2) + b'"',
    "a text of backslashes": b'"' + b"\\\\" * (SIZE // 2) + b'"',
    "a wide text": b'"' + b"A" * SIZE + "\U0001f600".encode() + b'"',
    "a name": b'{"' + b"A" * SIZE + b'":1}',
    "spaces": b" " * SIZE + b'""',
}


def attacks() -> Iterator[Attack]:
    """Yield each body."""
    messages = {name: b'[{"role":"user","content":[%b]}]' % parts for name, parts in PARTS.items()}
    for name, value in (messages | VALUES).items():
        yield Attack(
            name=f"media {name}",
            path="/v1/chat/completions",
            content=b'{"model":"echo","messages":%b}' % value,
        )
