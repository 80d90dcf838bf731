"""The address of a provider's API, and the way to it: directly or through a proxy."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from django.conf import settings

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server that connections are made to; `proxy_url` "" is a direct connection."""

    scheme: str
    host: str
    port: int
    proxy_url: str = ""

    @property
    def name(self) -> str:
        """The host and port, as a label of metrics."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An origin, and the first line and headers of requests to its chat completions."""

    origin: Origin
    # It has the key.
    head: bytes = field(repr=False)


@lru_cache(maxsize=1024)
def endpoint_of(base_url: str, api_key: str, proxy_url: str) -> Endpoint:
    """Return the endpoint below a base URL; raises ValueError for one that cannot be called."""
    parts = urlsplit(base_url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("a base URL must look like https://host/v1")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode()
    port = parts.port or PORTS[parts.scheme]
    origin = Origin(parts.scheme, host, port, proxy_url)
    return Endpoint(origin, _head(parts, origin, api_key))


def proxy_for(base_url: str) -> str:
    """Return the proxy of PROVIDER_PROXY_URL, else the environment's, for a server; "" for none.

    Raises ValueError for a proxy that does not speak HTTP.
    """
    parts = urlsplit(base_url)
    # NO_PROXY, which every HTTP client obeys.
    if parts.hostname and proxy_bypass(parts.hostname):
        return ""
    proxy = str(settings.PROVIDER_PROXY_URL) or getproxies().get(parts.scheme, "")
    # The environment's often have no scheme.
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy and not (urlsplit(proxy).scheme == "http" and urlsplit(proxy).hostname):
        raise ValueError("PROVIDER_PROXY_URL, or the environment's proxy, must be http://host:port")
    return proxy


def proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    """Return the header with a proxy URL's user and password."""
    if proxy.username is None:
        return {}
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(credentials.encode()).decode()}


def _head(parts: SplitResult, origin: Origin, api_key: str) -> bytes:
    path = parts.path.rstrip("/") + "/chat/completions" + (f"?{parts.query}" if parts.query else "")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = host if origin.port == PORTS[origin.scheme] else f"{host}:{origin.port}"
    headers = {
        "Host": authority,
        "User-Agent": "headrace",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        # The two that response_limits.py inflates.
        "Accept-Encoding": "gzip, deflate",
    }
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    target = path
    if origin.proxy_url and origin.scheme == "http":
        target = f"http://{authority}{path}"
        headers |= proxy_authorization(urlsplit(origin.proxy_url))
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isascii() or not line.isprintable() for line in lines) or " " in target:
        raise ValueError("the base URL and the key must be plain ASCII without spaces")
    return "\r\n".join(lines).encode()
