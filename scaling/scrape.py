"""Read what our own processes and HAProxy say of themselves over HTTP, and Prometheus's format.

One reader for the autoscaler, `cluster status` and the report on replicas. A part that is ill may
send slowly, for ever, or nothing: each read ends within TIMEOUT_SECONDS and MAX_BYTES.
"""

from __future__ import annotations

import http.client
import math
import re
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from config.deadline_socket import Deadline, DeadlineSocket, connect_to_one

TIMEOUT_SECONDS = 2.0
# HAProxy's metrics of its most slots have 7 MB.
MAX_BYTES = 16 * 1024 * 1024
LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
LABEL = re.compile(r'[ ,]*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\(.)")

# The value of each series by its name and its labels.
Metrics = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class ScrapeError(Exception):
    """A part is unavailable to its readers; the text says why."""


def scrape(address: str, *, prefixes: tuple[str, ...], query: str = "") -> Metrics:
    """Return the metrics of the process at `host:port`; raises ScrapeError."""
    return parse(fetch(f"http://{address}/metrics{query}"), prefixes=prefixes)


def fetch(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Return the page at a URL, of which redirects and the environment's proxies are no part.

    Raises ScrapeError.
    """
    try:
        return _get(url, Deadline(timeout_seconds))
    except TimeoutError as error:
        raise ScrapeError(f"no complete answer within {timeout_seconds:g} s") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ScrapeError(str(error) or type(error).__name__) from error


def parse(text: str, *, prefixes: tuple[str, ...]) -> Metrics:
    """Return the series of a text in Prometheus's format whose names begin like this.

    Those without a finite value are left out. Raises ScrapeError at a line that is of another form.
    Ours, because Prometheus's client takes three times as long.
    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    found = {}
    for line in text.split("\n"):
        if not line.startswith(prefixes):
            continue
        match = LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError("no sample")
            name, labels, text_value = match.groups()
            if math.isfinite(value := float(text_value)):
                found[name, _labels(labels or "")] = value
        except ValueError as error:
            raise ScrapeError(f"a line is not in Prometheus's format: {line[:100]!r}") from error
    return found


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the sum of the series of a name that have these labels."""
    wanted = labels.items()
    return sum(
        value for (found, labels), value in metrics.items() if found == name and wanted <= labels
    )


def _get(url: str, deadline: Deadline) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    # It makes the Host header; the connection is made here.
    connection = kind(parts.hostname or "", parts.port)
    found = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
    sock = connect_to_one(found, deadline)
    try:
        if parts.scheme == "https":
            sock.settimeout(deadline.remaining_seconds())
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=connection.host)
        connection.sock = DeadlineSocket(sock, deadline, max_bytes=MAX_BYTES)
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"the answer has status {response.status}")
        return response.read().decode("utf-8", errors="replace")
    finally:
        sock.close()


def _labels(text: str) -> frozenset[tuple[str, str]]:
    found, at = [], 0
    while match := LABEL.match(text, at):
        name, value = match.groups()
        if "\\" in value:
            value = ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], value)
        found.append((name, value))
        at = match.end()
    if text[at:].strip(" ,"):
        raise ValueError("no labels")
    return frozenset(found)
