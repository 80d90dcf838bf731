"""Base64 is cut out of large bodies before they are parsed, and nothing else is."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from chat.inputs.media_bodies import LONG_BYTES, MediaBody

DATA = base64.b64encode(random.Random(1).randbytes(60_000)).decode()
URL = f"data:image/png;base64,{DATA}"


def body_of(*parts: Any, **more: Any) -> dict[str, Any]:
    """Return a request whose message has these parts."""
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], **more}


def image(url: str) -> dict[str, Any]:
    """Return an image's part."""
    return {"type": "image_url", "image_url": {"url": url}}


def restored(raw: bytes) -> tuple[int, bool, Any]:
    """Return the size of a body without what was cut, whether all fitted, and its value."""
    body = MediaBody(raw)
    value = json.loads(body.rest)
    return len(body.rest), body.put_back(value), value


PARTS = [
    {"type": "text", "text": 'a "quoted\\" text'},
    image(URL),
    {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
    {"type": "file", "file": {"file_data": URL, "filename": "a"}},
    image(URL),
]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_body_is_what_it_was(indent: int | None) -> None:
    value = body_of(*PARTS)
    size, fitted, found = restored(json.dumps(value, indent=indent).encode())
    assert fitted
    assert found == value
    assert size < 2000


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d"), ("A", "\\u0041")],
)
def test_the_escapes_of_some_serializers_are_read(plain: str, escaped: str) -> None:
    value = body_of(image(URL), image(URL))
    size, fitted, found = restored(json.dumps(value).replace(plain, escaped).encode())
    assert fitted
    assert found == value
    assert size < 1000


@pytest.mark.parametrize(
    "text",
    [
        "1," * LONG_BYTES,
        '\\"' * LONG_BYTES,
        "a\\\\" * LONG_BYTES,
        "\\ud83d\\ude00" * LONG_BYTES,
        "\\u00e9:" * LONG_BYTES,
        "é" * LONG_BYTES,
        "x\\" * 3 + '"' + "A" * LONG_BYTES,
        'x\\"' + "A" * LONG_BYTES,
        "A" * LONG_BYTES + '\\"',
        "A" * (LONG_BYTES - 1),
        "https://example.org/" + "a" * LONG_BYTES,
    ],
)
def test_other_texts_stay_in_the_body(text: str) -> None:
    raw = b'{"messages": [{"content": [{"image_url": {"url": "%b"}}]}]}' % text.encode()
    assert MediaBody(raw).rest == raw


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": %b}' % (b"[" + b"1,2," * LONG_BYTES + b'3], "b": 1'),
        b'{"a":' + b" " * 2 * LONG_BYTES + b'"b"}',
        b'{"' + b"A" * LONG_BYTES + b'": 1}',
        b'{"' + b"A" * LONG_BYTES + b'"' + b" " * 100 + b": 1}",
        b'{"a": ' + b"1" * 2 * LONG_BYTES + b"}",
        b'["' + b"A" * LONG_BYTES,
        b"A" * 2 * LONG_BYTES,
        b"",
    ],
)
def test_what_is_no_string_stays_in_the_body(raw: bytes) -> None:
    assert MediaBody(raw).rest == raw


@pytest.mark.parametrize(
    "raw", [b'{"a" "%b"}', b'{"a"%b"b"}', b'{"a":1}"%b"', b'"%b", "b"', b'{"a": "%b" "b"}']
)
def test_what_is_no_json_is_none_without_its_media(raw: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(MediaBody(raw % (b"A" * LONG_BYTES)).rest)


TEXTS: list[Any] = [
    body_of({"type": "text", "text": DATA}),
    body_of(image(URL), {"type": "text", "text": DATA}, image(URL), metadata={"a": DATA}),
    {"model": "m", "messages": [{"role": "user", "content": "\x01" + DATA}]},
    {"messages": [[image(URL)], {"content": [URL]}]},
    [image(URL)],
]


@pytest.mark.parametrize("value", TEXTS)
def test_texts_that_look_like_base64_are_put_back(value: Any) -> None:
    raw = json.dumps(value).encode()
    body = MediaBody(raw)
    assert not body.put_back(json.loads(body.rest))
    found = json.loads(body.rest)
    assert body.put_back(found)
    assert found == value


@pytest.mark.parametrize("value", TEXTS)
def test_texts_that_look_like_base64_count_as_text(value: Any, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 50_000
    body = MediaBody(json.dumps(value).encode())
    assert body.rest_bytes < 1000
    assert not body.put_back(json.loads(body.rest))
    assert body.rest_bytes > 50_000


def test_a_name_cannot_be_sent() -> None:
    sent = MediaBody(json.dumps(body_of(image(URL))).encode()).rest
    _, fitted, found = restored(sent)
    assert fitted
    assert found == json.loads(sent)


def test_random_bodies_are_what_they_were() -> None:
    chance = random.Random(2)
    texts = [
        "a",
        '"',
        "\\",
        "/",
        ",",
        "é",
        DATA,
        URL,
        DATA[:20_000] + '"',
        "\\" + DATA,
        " " * 20_000,
    ]
    for _ in range(200):
        parts = [
            image("".join(chance.choices(texts, k=chance.randint(1, 3))))
            for _ in range(chance.randint(1, 4))
        ]
        value = body_of(*parts)
        raw = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode()
        _, fitted, found = restored(raw)
        assert fitted
        assert found == value
