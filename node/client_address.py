"""The address of a client, as the proxies in front report it."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest

# A client has a /64 of IPv6 at least, and could use another address for each request.
IPV6_PREFIX = 64
UNKNOWN = "unknown"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_network(request: HttpRequest) -> str:
    """Return the IPv4 address, or the IPv6 network, that a request comes from.

    `X-Forwarded-For` is trusted from the peers in FORWARDED_ALLOW_IPS alone, and of it the last
    address, which the proxy itself has written.
    """
    peer = request.META.get("REMOTE_ADDR", "")
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    if forwarded and _is_proxy(peer):
        return network_of(forwarded)
    return network_of(peer)


def network_of(text: str) -> str:
    """Return an address as `client_network` does; UNKNOWN for any other text."""
    try:
        address = _plain(ipaddress.ip_address(text))
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))


def _is_proxy(peer: str) -> bool:
    if "*" in settings.FORWARDED_ALLOW_IPS:
        return True
    try:
        address = _plain(ipaddress.ip_address(peer))
    except ValueError:
        # Only this machine's processes reach a node's Unix socket.
        return not peer
    return any(address in network for network in _networks(tuple(settings.FORWARDED_ALLOW_IPS)))


def _plain(address: Address) -> Address:
    """Return IPv4 for an IPv4 address that is written as IPv6, as dual-stack sockets do."""
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


@functools.cache
def _networks(texts: Sequence[str]) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]
