"""Checks of the addresses of webhooks.

A URL is checked when it is submitted, and again at every redirect. The addresses of its host's name
are certain only when it is resolved, so `check_ip` checks each one right before the connection
(jobs/notifications/connections.py).
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from django.conf import settings

MAX_HOST_CHARS = 253

# IANA's special-purpose registry, and multicast. Written out, because Python's `is_global` differs
# from release to release.
PRIVATE_V4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # Azure's platform services: a public address that only its own machines reach.
        "168.63.129.16/32",
    )
]  # fmt: skip
GLOBAL_V6 = IPv6Network("2000::/3")
# Within GLOBAL_V6: protocol assignments with Teredo among them, and documentation.
PRIVATE_V6 = [IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20")]

# Names that only the own network resolves.
LOCAL_NAMES = ("localhost", "local", "internal", "lan", "home.arpa")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def check_webhook_url(url: str) -> str:
    """Return the URL if it can be one of a webhook; raises ValueError with the reason.

    Resolves no name.
    """
    # Other characters, in a host's name above all, are read differently by different parsers.
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise ValueError("must be a URL of printable ASCII characters, without spaces")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("must be an http or https URL") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password")
    if port == 0:
        raise ValueError("must have a port from 1 to 65535")
    literal = read_ip(host)
    if literal is not None:
        check_ip(literal)
    else:
        _check_name(host.removesuffix("."))
    return url


def read_ip(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a URL's host is, None for a name; raises ValueError for neither.

    Reads the forms that resolvers read as well: `2130706433`, `0x7f.1`, `127.1` are 127.0.0.1.
    """
    if "%" in host:
        raise ValueError("must not hold an address with a zone")
    try:
        return ip_address(host)
    except ValueError:
        pass
    bare = host.removesuffix(".")
    # The rule of browsers (WHATWG URL, "ends in a number checker").
    if not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", bare.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(socket.inet_aton(bare))
    except OSError as error:
        raise ValueError("must have a host that is a name or an IP address") from error


def check_ip(address: IPv4Address | IPv6Address) -> None:
    """Raise ValueError unless the address is a public one, or WEBHOOK_ALLOW_PRIVATE is set."""
    if not (settings.WEBHOOK_ALLOW_PRIVATE or is_public(address)):
        raise ValueError("must not lead to a private address")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether the address is one of the internet, and so is an IPv4 address inside it."""
    if isinstance(address, IPv6Address):
        inner = _inner_v4(address)
        if inner is None:
            return address in GLOBAL_V6 and not any(address in net for net in PRIVATE_V6)
        address = inner
    return not any(address in net for net in PRIVATE_V4)


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    """Return where IPv4-mapped, 6to4 (RFC 3056) and NAT64 (RFC 6052) addresses lead."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in IPv6Network("64:ff9b::/96"):
        return IPv4Address(address.packed[12:])
    return address.sixtofour


def _check_name(name: str) -> None:
    if len(name) > MAX_HOST_CHARS or not all(_LABEL.fullmatch(part) for part in name.split(".")):
        raise ValueError("must have a host that is a name or an IP address")
    is_local = "." not in name or name.endswith(tuple(f".{local}" for local in LOCAL_NAMES))
    if is_local and not settings.WEBHOOK_ALLOW_PRIVATE:
        raise ValueError("must not lead to a private address")
