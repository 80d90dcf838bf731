"""Decode request bodies that clients have compressed, bounded by what they become."""

from __future__ import annotations

import zlib

from django.conf import settings

from config.api.errors import ApiError, InvalidRequest

# Reads gzip's header and zlib's.
ANY_HEADER = zlib.MAX_WBITS | 32
GZIP = ("gzip", "x-gzip", "deflate")
# A 415 names what the server decodes: RFC 9110, section 15.5.16.
ACCEPTED = {"Accept-Encoding": "gzip, deflate, identity"}


def decoded(raw: bytes, encoding: str) -> bytes:
    """Return a body without its `Content-Encoding`, at most a byte more than MAX_BODY_BYTES.

    Raises ApiError 415 for another encoding than gzip and deflate, and InvalidRequest for a body
    that is not as it says.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return raw
    if name not in GZIP:
        raise unsupported(f"The body's Content-Encoding {name[:50]!r} is not supported.")
    most = settings.MAX_BODY_BYTES + 1
    found = b""
    rest = raw
    try:
        # A gzip body may have several members.
        while rest and len(found) < most:
            decoder = zlib.decompressobj(ANY_HEADER)
            found += decoder.decompress(rest, most - len(found))
            if not decoder.eof and len(found) < most:
                raise InvalidRequest(f"The body ends within its {name}.", code="invalid_encoding")
            rest = decoder.unused_data
    except zlib.error as error:
        raise InvalidRequest(
            f"The body is declared as {name}, and is not.", code="invalid_encoding"
        ) from error
    return found


def refuse_encoded(encoding: str) -> None:
    """Raise ApiError 415 for a body that is encoded where none is decoded, as in forms."""
    if encoding.strip().lower() not in ("", "identity"):
        raise unsupported("A form may have no Content-Encoding.", accepted="identity")


def unsupported(message: str, *, accepted: str = ACCEPTED["Accept-Encoding"]) -> ApiError:
    """Return the error of an encoding that is not decoded."""
    return ApiError(
        415, message, code="unsupported_encoding", headers={"Accept-Encoding": accepted}
    )
