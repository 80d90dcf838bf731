"""Multipart forms that are costly or strange to read; each has the name of what it tries."""

from __future__ import annotations

from collections.abc import Callable

Form = tuple[bytes, bytes]
MIB = 1024 * 1024
TYPE = b"multipart/form-data; boundary=b"
END = b"\r\n--b--\r\n"


def part(head: bytes, content: bytes = b"x") -> bytes:
    """Return a part with these headers."""
    return b"--b\r\n%b\r\n\r\n%b\r\n" % (head, content)


def field(name: bytes, content: bytes = b"x", more: bytes = b"") -> bytes:
    """Return a field."""
    return part(b'Content-Disposition: form-data; name="%b"%b' % (name, more), content)


def file(content: bytes, name: bytes = b'filename="a.txt"', more: bytes = b"") -> bytes:
    """Return the form's file, with further headers."""
    return part(b'Content-Disposition: form-data; name="file"; %b%b' % (name, more), content)


CHAIN = field(b"chain", b"echo")


def many_fields() -> Form:
    """A hundred thousand empty fields."""
    return TYPE, field(b"a") * 100_000 + END


def many_files() -> Form:
    """Ten thousand files."""
    return TYPE, file(b"x") * 10_000 + END


def parts_without_headers() -> Form:
    """Boundaries alone."""
    return TYPE, b"--b\r\n" * 4_000_000 + END


def many_parameters() -> Form:
    """Parts with as many parameters as their headers have room for."""
    return TYPE, field(b"a", more=b";" + b"a=b;" * 230) * 10_000 + END


def continued_parameters() -> Form:
    """Parameters in a hundred pieces (RFC 2231)."""
    pieces = b"".join(b";a*%d*=b" % number for number in range(100))
    return TYPE, field(b"a", more=pieces) * 20 + CHAIN + END


def long_header() -> Form:
    """A header without an end."""
    return TYPE, part(b"Content-Disposition: " + b"a" * 20 * MIB) + END


def line_ends() -> Form:
    """A file of line ends alone, each of which may begin a boundary."""
    return TYPE, CHAIN + file(b"\r\n" * 10 * MIB) + END


def near_boundaries() -> Form:
    """A file of what are nearly boundaries."""
    boundary = b"x" * 199
    near = b"\r\n--" + boundary[:-1]
    body = b"--%b\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n" % boundary
    return (
        b"multipart/form-data; boundary=" + boundary,
        body + near * 100_000 + b"\r\n--%b--\r\n" % boundary,
    )


def dashes() -> Form:
    """A file of dashes, and a boundary of dashes."""
    return (
        b"multipart/form-data; boundary=" + b"-" * 100,
        b"-" * 20 * MIB,
    )


def base64_space() -> Form:
    """A file in base64 that is white space."""
    return TYPE, CHAIN + file(b" " * 20 * MIB, more=b"\r\nContent-Transfer-Encoding: base64") + END


def base64_short() -> Form:
    """A file in base64 of single characters among line ends."""
    return TYPE, CHAIN + file(
        b"QQ==\r\n" * 3_000_000, more=b"\r\nContent-Transfer-Encoding: base64"
    ) + END


def large_field() -> Form:
    """A field of 20 MB."""
    return TYPE, CHAIN + field(b"metadata", b"x" * 20 * MIB) + END


def deep_json() -> Form:
    """A field whose JSON is nested a million deep."""
    return TYPE, CHAIN + field(b"input", b"[" * 1_000_000) + file(b"text") + END


def wide_json() -> Form:
    """A field whose JSON has a million empty objects."""
    return TYPE, CHAIN + field(b"input", b'{"a":[' + b"{}," * 1_000_000 + b"{}]}") + file(
        b"x"
    ) + END


def wide_metadata() -> Form:
    """Metadata with half a million entries."""
    entries = b",".join(b'"%d":{}' % number for number in range(300_000))
    return TYPE, CHAIN + field(b"metadata", b"{%b}" % entries) + file(b"x") + END


def large_number() -> Form:
    """A number of a million digits."""
    return TYPE, CHAIN + field(b"priority", b"9" * 1_000_000) + file(b"text") + END


def long_text() -> Form:
    """A text of as many characters as a file has bytes."""
    return TYPE, CHAIN + file(b"x" * 20 * MIB) + END


def text_of_space() -> Form:
    """A text of white space."""
    return TYPE, CHAIN + file(" \u2028".encode() * 5 * MIB) + END


def text_of_emoji() -> Form:
    """The longest text that is taken, each character of four bytes."""
    return TYPE, CHAIN + file("\U0001f600".encode() * 4_999_000) + END


def text_of_escapes() -> Form:
    """The longest text of characters that JSON writes as six."""
    return TYPE, CHAIN + file(b"\x01" * 4_999_000) + END


def utf_16() -> Form:
    """A text of a byte order mark and bytes."""
    return TYPE, CHAIN + file(b"\xff\xfe" + b"\xd8" * 10 * MIB) + END


def half_utf_8() -> Form:
    """A text whose last byte alone is wrong."""
    return TYPE, CHAIN + file("\u20ac".encode() * 6 * MIB + b"\xe2") + END


def names() -> list[Form]:
    """Return forms whose files' names are in strange encodings."""
    return [
        (TYPE, CHAIN + file(b"text", name=name) + END)
        for name in (
            b"filename*=utf-7''+AGE-.txt",
            b"filename*=idna''" + b"%61" * 250,
            b"filename*=punycode''" + b"a-" * 300,
            b"filename*=undefined''%61",
            b"filename*=hex''61",
            b"filename*=zlib''%78%9c",
            b"filename*=" + b"x" * 500 + b"''a",
            b"filename*0*=utf-8''a; filename*0=b; filename*x=c",
            b"filename*9999999999=b",
            b"filename*='';a",
            b'filename="' + b'\\"' * 400 + b'"',
            b'filename="' + b"../" * 250 + b'etc/passwd"',
            b'filename="a\0b.txt"',
            b'filename="&#0;&#x110000;&#xd800;.txt"',
            b'filename="%00%0a.txt"',
            b'filename=""',
            b'filename="."',
            b'filename="con.txt:stream"',
            b"filename=\xff\xfe.txt",
            'filename="\u202e\u0000\ufeff.txt"'.encode(),
        )
    ]


def types() -> list[Form]:
    """Return forms whose own content type is strange."""
    body = CHAIN + file(b"text") + END
    return [
        (b"multipart/form-data" + more, body)
        for more in (
            b"",
            b"; boundary=",
            b'; boundary=""',
            b"; boundary=" + b"b" * 5000,
            b"; boundary=b; boundary=c",
            b"; boundary*=utf-8''b",
            b"; boundary*=undefined''b",
            b"; boundary*0=b; boundary*1=c",
            b"; boundary=\xe9",
            b"; boundary=b; charset=utf-7",
            b"; boundary=b; charset=undefined",
            b";" + b"a=b;" * 2000 + b"boundary=b",
            b";boundary=b;" + b'"' * 3000,
        )
    ]


FORMS: dict[str, Callable[[], Form]] = {
    make.__name__: make
    for make in (
        many_fields,
        many_files,
        parts_without_headers,
        many_parameters,
        continued_parameters,
        long_header,
        line_ends,
        near_boundaries,
        dashes,
        base64_space,
        base64_short,
        large_field,
        deep_json,
        wide_json,
        wide_metadata,
        large_number,
        long_text,
        text_of_space,
        text_of_emoji,
        text_of_escapes,
        utf_16,
        half_utf_8,
    )
}
