"""One hostile request, and the addresses that take a body."""

from __future__ import annotations

from dataclasses import dataclass, field

JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES = 4 * 1024 * 1024
# How many values a body may have (MAX_JSON_ITEMS); those that have as many cost most.
MAX_ITEMS = 50_000


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is sent, as it goes over the wire."""

    name: str
    path: str
    content: bytes
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


def array(unit: bytes, count: int) -> bytes:
    """Return a JSON array of so many equal values."""
    return b"[" + b",".join([unit] * count) + b"]"


def members(count: int, value: bytes = b"1") -> bytes:
    """Return a JSON object of so many members."""
    return b"{" + b",".join(b'"%06x":%b' % (n, value) for n in range(count)) + b"}"


def filled(unit: bytes) -> bytes:
    """Return a JSON array of equal values, nearly as large as a body may be."""
    return array(unit, (MAX_BODY_BYTES - 1000) // (len(unit) + 1))
