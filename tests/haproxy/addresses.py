"""Addresses of requests that a proxy's rules must not be walked around by."""

from __future__ import annotations

import random
import re
from urllib.parse import unquote_to_bytes

# Each is refused with a 400.
BAD = [
    "/admin/%zz",
    "/%61dmin/%zz",
    "/admin/%",
    "/admin/%4",
    "/admin/%4/",
    "/metrics%g1",
    "/%u0061dmin/",
    "/admin/#/v1/models",
    "/v1/chat/completions#/cancel",
]
# HAProxy's alone: to nginx and Django these are only unknown addresses.
NOT_UTF8 = [
    "/admin/%c0%ae",
    "/admin/%E0%80%AF",
    "/admin/%ff",
    "/admin/%ed%a0%80",
    "/admin/%F0%8f%af",
]
PIECES = [
    *("/", "admin", "metrics", "health/live", "v1", "cancel", "a", "%61", "%2561", "%41"),
    *("%", "%2", "%zz", "%%", "%0", "%1g", "%u0061", ".", "..", "%2e", "%2f", "\\", "%5c", "//"),
    *("#", "?", ";", "+", "%00", "%25", "%c0%ae", "%E0%80%AF", "%ff", "%ed%a0%80", "%e4%b8%ad"),
    *("*", "http://h", "~", "=", "&", "@"),
]


def generated(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Return as many methods and addresses, mostly bad ones."""
    made = random.Random(seed)

    def target() -> str:
        start = made.choice(["/", "/", "/", "/admin", "http://h/", ""])
        return start + "".join(made.choices(PIECES, k=made.randint(1, 6)))

    return [(made.choice(["GET", "POST", "HEAD", "OPTIONS"]), target()) for _ in range(count)]


def is_private(target: str) -> bool:
    """Return whether Django could take an address for one of those that only operators may see."""
    path = re.match("(?:http://[^/]*)?([^?#]*)", target)
    assert path is not None
    decoded = unquote_to_bytes(path[1])
    if decoded.startswith((b"/admin", b"/metrics", b"/health/")):
        return True
    return re.search(rb"(^|/)\.\.?(/|$)|//|\\|\0", decoded) is not None
