"""Entries as bytes: what goes in comes out, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scaling.response_cache.entry import MAX_BODY_BYTES, Entry, decode, encode
from tests.support.waiting import slack

NOW = 1_764_000_000.0
ENTRY = Entry(
    body=b'{"id":"chatcmpl-1","text":"' + b"the same words again " * 200 + b'"}',
    content_type="application/json",
    stored_at=NOW,
    fresh_seconds=60.0,
    stale_seconds=30.0,
    stale_if_error_seconds=600.0,
    volatile_texts=("chatcmpl-1", "é"),
    prompt_tokens=12,
    completion_tokens=345,
    chain="assistant",
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
seconds = st.floats(min_value=0, max_value=1e10)
counts = st.integers(min_value=0, max_value=2**53)
entries = st.builds(
    Entry,
    body=st.binary(max_size=5000)
    | st.builds(lambda part, times: part * times, st.binary(max_size=50), st.integers(0, 200)),
    content_type=texts,
    stored_at=seconds,
    fresh_seconds=seconds,
    stale_seconds=seconds,
    stale_if_error_seconds=seconds,
    volatile_texts=st.lists(texts, max_size=4).map(tuple),
    prompt_tokens=counts,
    completion_tokens=counts,
    chain=texts,
)


@given(entries)
def test_an_entry_comes_back_as_it_was(entry):
    assert decode(encode(entry)) == entry


@given(st.binary(max_size=300))
def test_random_bytes_are_no_entry(data):
    with pytest.raises(ValueError, match=r"."):
        decode(data)


@given(st.binary(max_size=300))
def test_random_bytes_with_a_right_checksum_are_no_entry(data):
    with pytest.raises(ValueError, match=r"."):
        decode(sealed(header=data[:50], body=data[50:]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(texts, inner, max_size=3),
)


@given(st.lists(json_values, min_size=9, max_size=11))
def test_a_header_of_other_values_is_no_entry(values):
    # Sizes that fit a body of no bytes would be an entry if all the rest were right, too.
    header = json.dumps(["0", *values]).encode()
    with pytest.raises(ValueError, match=r"."):
        decode(sealed(header=header, body=b""))


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("wrong", [None, True, "x", -1, 1.5, [], [1], {}, 2**70])
def test_each_field_of_the_header_has_its_type(place, wrong):
    right = [0, "a/b", 1.0, 1.0, 1.0, 1.0, ["x"], 1, 2, "c"]
    assert decode(sealed(header=json.dumps(right).encode(), body=b"")).chain == "c"
    allowed = {0: int, 1: str, 6: list, 7: int, 8: int, 9: str}.get(place, (int, float))
    is_right = isinstance(wrong, allowed) and not isinstance(wrong, bool) and wrong != [1]
    if is_right and not (place == 0 and wrong) and not (place in (7, 8) and wrong == 2**70):
        return
    header = json.dumps([*right[:place], wrong, *right[place + 1 :]]).encode()
    with pytest.raises(ValueError, match=r"."):
        decode(sealed(header=header, body=b""))


def test_no_truncated_entry_is_one():
    data = encode(ENTRY)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"."):
            decode(data[:length])
    with pytest.raises(ValueError, match="checksum"):
        decode(data + b"x")


def test_no_entry_with_a_changed_byte_is_one():
    chance = random.Random(7)
    data = encode(ENTRY)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= chance.randrange(1, 256)
        with pytest.raises(ValueError, match=r"."):
            decode(bytes(changed))


def test_another_version_is_no_entry():
    with pytest.raises(ValueError, match="version 2"):
        decode(b"\x02" + encode(ENTRY)[1:])


def test_another_compression_is_no_entry():
    data = encode(ENTRY)
    with pytest.raises(ValueError, match="body does not match"):
        decode(data[:1] + b"\x07" + data[2:])


def bombs():
    gigabyte = zstandard.ZstdCompressor(level=1)
    zeros = bytes(1024 * 1024)
    told = gigabyte.compressobj(size=1024 * len(zeros))
    untold = gigabyte.compressobj()
    for name, stream in (("told", told), ("untold", untold)):
        bomb = b"".join(stream.compress(zeros) for _ in range(1024)) + stream.flush()
        yield name, bomb


@pytest.mark.parametrize("size", [100, MAX_BODY_BYTES, 1024**3])
def test_a_bomb_takes_no_memory(size):
    header = json.dumps([size, "a/b", 1.0, 1.0, 1.0, 1.0, [], 1, 2, "c"]).encode()
    for name, bomb in bombs():
        assert len(bomb) < 200_000
        data = sealed(header=header, body=bomb, kind=1)
        before = peak_rss_kb()
        started = time.monotonic()
        with pytest.raises(ValueError, match=r"."):
            decode(data)
        assert time.monotonic() - started < slack(0.5), name
        assert peak_rss_kb() - before < 64 * 1024, name


def test_a_frame_that_lies_about_its_size_is_no_entry():
    frame = bytearray(zstandard.ZstdCompressor().compress(b"a" * 300))
    assert zstandard.frame_content_size(bytes(frame)) == 300
    # Frames below 65,792 bytes state their size, less 256, in two bytes after the descriptor.
    frame[5:7] = struct.pack("<H", 400 - 256)
    header = json.dumps([400, "a/b", 1.0, 1.0, 1.0, 1.0, [], 1, 2, "c"]).encode()
    assert zstandard.frame_content_size(bytes(frame)) == 400
    with pytest.raises(ValueError, match="Zstandard"):
        decode(sealed(header=header, body=bytes(frame), kind=1))


def test_only_bodies_above_the_setting_are_compressed(settings):
    settings.CACHE_COMPRESS_BYTES = len(ENTRY.body)
    assert ENTRY.body in encode(ENTRY)
    settings.CACHE_COMPRESS_BYTES = len(ENTRY.body) - 1
    assert len(encode(ENTRY)) < len(ENTRY.body) / 5


def test_a_body_that_does_not_shrink_is_stored_as_it_is():
    entry = dataclasses.replace(ENTRY, body=random.Random(3).randbytes(5000))
    assert entry.body in encode(entry)


@pytest.mark.parametrize(
    "change",
    [
        {"body": bytes(MAX_BODY_BYTES + 1)},
        {"fresh_seconds": float("nan")},
        {"stored_at": float("inf")},
        {"chain": "\ud800"},
    ],
    ids=["large", "nan", "infinite", "surrogate"],
)
def test_what_could_not_be_read_again_is_not_written(change):
    with pytest.raises(ValueError, match=r"."):
        encode(dataclasses.replace(ENTRY, **change))


def test_the_largest_body_comes_back():
    entry = dataclasses.replace(ENTRY, body=b"x" * MAX_BODY_BYTES)
    assert decode(encode(entry)) == entry


def test_threads_share_the_compressors():
    chance = random.Random(5)
    made = [
        dataclasses.replace(ENTRY, body=bytes([n]) * chance.randrange(1, 200_000))
        for n in range(64)
    ]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda entry: decode(encode(entry)), made * 4)) == made * 4


@pytest.mark.parametrize(
    ("age", "fresh", "stale", "stand_in"),
    [
        (-5, True, True, True),
        (0, True, True, True),
        (59.9, True, True, True),
        (60, False, True, True),
        (89.9, False, True, True),
        (90, False, False, True),
        (659.9, False, False, True),
        (660, False, False, False),
    ],
)
def test_an_entry_grows_old(age, fresh, stale, stand_in):
    now = NOW + age
    assert ENTRY.age_seconds(now) == pytest.approx(max(0, age))
    assert ENTRY.freshness_left(now) == pytest.approx(60 - max(0, age))
    assert ENTRY.is_fresh(now) is fresh
    assert ENTRY.may_serve_stale_while_revalidate(now) is stale
    assert ENTRY.may_serve_stale_if_error(now) is stand_in


def test_a_store_keeps_an_entry_while_it_may_be_of_use():
    assert ENTRY.retention_seconds == 660
    assert dataclasses.replace(ENTRY, stale_seconds=1000.0).retention_seconds == 1060


def sealed(*, header: bytes, body: bytes, kind: int = 0) -> bytes:
    """Return bytes that are right but for what is in them."""
    return struct.pack(">BBII", 1, kind, len(header), zlib.crc32(header + body)) + header + body


def peak_rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
