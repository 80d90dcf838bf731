"""Floods of one stranger or one account; each was once enough to stop all others."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tests.hostile import pdfs
from tests.hostile.conftest import Hostile

CHAT = "/v1/chat/completions"
# Millions of faults in 3 MB, and a text without a place to cut it.
FAULTS = (
    b'{"model":"echo","messages":['
    + b",".join([b'{"role":"user","content":[' + b",".join([b"{}"] * 1000) + b"]}"] * 1000)
    + b"]}"
)
SEAMLESS = b'{"chain":"digest","input":"' + b"a" * 3_900_000 + b'"}'
SMALL = b'{"model":"echo","messages":[{"role":"user","content":"x"}]}'
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Flood:
    """What each of so many connections does again and again until the flood is over."""

    name: str
    connections: int
    step: Callable[[Hostile, httpx.Client], object]
    # Whether it comes with the attacker's key.
    has_key: bool = True


def log_in(_: Hostile, client: httpx.Client) -> None:
    """Try a wrong password."""
    page = client.get("/admin/login/")
    if token := re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text):
        form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": "wrong"}
        client.post("/admin/login/", data=form, headers={"Referer": str(page.url)})


def follow(hostile: Hostile, client: httpx.Client) -> None:
    """Read the events of a job that waits."""
    waits = {"chain": "echo", "input": "x", "run_at": "2099-01-01T00:00:00Z"}
    job = client.post("/v1/jobs", json=waits)
    if job.status_code != 202:
        return
    with client.stream("GET", f"/v1/jobs/{job.json()['id']}/events", timeout=5) as response:
        response.read()


def post(path: str, body: bytes) -> Callable[[Hostile, httpx.Client], object]:
    """Return a step that posts a body."""
    return lambda _, client: client.post(path, content=body, headers=JSON)


def get(path: str) -> Callable[[Hostile, httpx.Client], object]:
    """Return a step that reads a page."""
    return lambda _, client: client.get(path)


def stall(hostile: Hostile, client: httpx.Client) -> None:
    """Send all of a body but its end, and wait."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: {client.headers['authorization']}\r\n"
        f"Content-Length: {len(FAULTS) + 1}\r\n\r\n"
    )
    address = urlsplit(hostile.stack.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            connection.sendall(head.encode() + FAULTS)
            connection.recv(1000)


def invent_key(_: Hostile, client: httpx.Client) -> None:
    """Send a request with a key that is none."""
    headers = {"Authorization": f"Bearer hr_{random.getrandbits(160):049d}"}
    client.post(CHAT, content=SMALL, headers={**JSON, **headers})


@functools.cache
def bombs() -> list[bytes]:
    """Return documents that cost much to read."""
    return [make() for make in pdfs.COSTLY]


def upload_bomb(_: Hostile, client: httpx.Client) -> None:
    """Upload one of them."""
    document = random.choice(bombs())
    client.post("/v1/jobs", data={"chain": "echo"}, files={"file": ("a.pdf", document)})


def notify_for_ever(hostile: Hostile, client: httpx.Client) -> None:
    """Submit a job whose receiver never ends its answer."""
    body = {"chain": "echo", "input": "x", "webhook_url": hostile.endless.url()}
    client.post("/v1/jobs", json=body)


FLOODS = (
    Flood("6 connections of wrong logins", 6, log_in, has_key=False),
    Flood("40 connections of wrong logins", 40, log_in, has_key=False),
    Flood("16 connections of /v1/schema", 16, get("/v1/schema"), has_key=False),
    Flood("16 connections of pages that do not exist", 16, get("/nothing"), has_key=False),
    Flood("4 connections of 1,000,000 faulty parts", 4, post(CHAT, FAULTS)),
    Flood("4 connections of texts without a space", 4, post("/v1/jobs", SEAMLESS)),
    Flood("40 followers of idle jobs", 40, follow),
    Flood("16 connections of costly PDFs", 16, upload_bomb),
    Flood("4 connections of webhooks that never end", 4, notify_for_ever),
    Flood("48 connections of small requests", 48, post(CHAT, SMALL)),
    Flood("48 connections of invented keys", 48, invent_key, has_key=False),
    Flood("64 connections of bodies that stall", 64, stall),
)


@contextmanager
def flooding(flood: Flood, hostile: Hostile) -> Iterator[None]:
    """Flood the stack for the length of the block."""
    is_over = threading.Event()
    headers = dict(hostile.attacker.headers) if flood.has_key else {}
    headers.pop("host", None)

    def run() -> None:
        with httpx.Client(base_url=hostile.stack.url, headers=headers, timeout=30) as client:
            while not is_over.is_set():
                # Refused while the body was being sent, or idle for as long as the test wants.
                with contextlib.suppress(httpx.TransportError):
                    flood.step(hostile, client)

    # Made before the flood: it takes seconds.
    bombs()
    threads = [threading.Thread(target=run, daemon=True) for _ in range(flood.connections)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
