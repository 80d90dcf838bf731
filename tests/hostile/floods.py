"""Floods of one stranger or one account; each was once enough to stop all others."""

from __future__ import annotations

import functools
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tests.hostile import pdfs
from tests.hostile.conftest import Hostile
from tests.support.calls import manage

CHAT = "/v1/chat/completions"
# Millions of faults in 3 MB, and a text without a place to cut it.
FAULTS = (
    b'{"model":"echo","messages":['
    + b",".join([b'{"role":"user","content":[' + b",".join([b"{}"] * 1000) + b"]}"] * 1000)
    + b"]}"
)
SEAMLESS = b'{"chain":"digest","input":{"text":"' + b"a" * 3_900_000 + b'"}}'
SMALL = b'{"model":"echo","messages":[{"role":"user","content":"x"}]}'
JSON = {"Content-Type": "application/json"}
# A worker that runs a job sees soon that it is cancelled.
CANCEL_SECONDS = 0.5
# The pause of a client that was refused.
REFUSED_SECONDS = 1.0
# Of a body that stalls: waited for, or refused at once.
STALLED = ("silent", "POST 408")
REFUSED = ("cut", "POST 429", "POST 503")


# One of these: "POST 202", or "silent" and "cut" where there was none.
Answers = tuple[str, ...]


@dataclass(frozen=True)
class Flood:
    """What each of so many connections does again and again until the flood is over."""

    name: str
    connections: int
    step: Callable[[Hostile, httpx.Client], object]
    # The answers that show that it did what it is for, and how many it gets at least.
    answers: Mapping[Answers, int]
    # What it makes the stack do beyond its answers, as a count that grows; it grows at least once.
    reached: Callable[[Hostile], int] | None = None
    # Whether it comes with the attacker's key.
    has_key: bool = True
    # Whether each connection comes from an address of its own, as HAProxy sees it.
    has_addresses: bool = False


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


def stall(hostile: Hostile, client: httpx.Client) -> str:
    """Send all of a body but its end, and wait; return what came.

    After a refusal it pauses: so many complete bodies are a flood of another kind, of the network.
    """
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: {client.headers['authorization']}\r\n"
        f"Content-Length: {len(FAULTS) + 1}\r\n\r\n"
    )
    address = urlsplit(hostile.stack.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(head.encode() + FAULTS)
            answer = connection.recv(1000)
        except TimeoutError:
            return "silent"
        except OSError:
            return "cut"
        time.sleep(REFUSED_SECONDS)
    return f"POST {answer[9:12].decode()}" if answer else "cut"


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


def endless_webhooks(hostile: Hostile) -> int:
    """Return how many webhooks have begun."""
    return len(hostile.endless.received)


def model_calls(hostile: Hostile) -> int:
    """Return how many calls the chains have made."""
    return len(hostile.provider.calls)


FLOODS = (
    Flood(
        "6 connections of wrong logins",
        6,
        log_in,
        {("GET 200",): 10, ("POST 200", "POST 429"): 10},
        has_key=False,
    ),
    # Which a limit by address does not bind: passwords are checked as fast as a node does so.
    Flood(
        "40 addresses of wrong logins",
        40,
        log_in,
        {("GET 200",): 5, ("POST 200",): 1, ("POST 200", "POST 503"): 5},
        has_key=False,
        has_addresses=True,
    ),
    Flood("40 connections of wrong logins", 40, log_in, {("GET 429",): 100}, has_key=False),
    Flood(
        "16 connections of /v1/schema", 16, get("/v1/schema"), {("GET 200",): 200}, has_key=False
    ),
    Flood(
        "16 connections of pages that do not exist",
        16,
        get("/nothing"),
        {("GET 404",): 100},
        has_key=False,
    ),
    Flood("4 connections of 1,000,000 faulty parts", 4, post(CHAT, FAULTS), {("POST 400",): 10}),
    Flood(
        "4 connections of texts without a space",
        4,
        post("/v1/jobs", SEAMLESS),
        {("POST 202",): 10},
        reached=model_calls,
    ),
    Flood("40 followers of idle jobs", 40, follow, {("GET 200",): 40, ("silent",): 40}),
    # Each is read for seconds, or refused while others are.
    Flood(
        "16 connections of costly PDFs",
        16,
        upload_bomb,
        {("POST 422", "silent"): 1, ("POST 202", "POST 422", "POST 429", "POST 503", "silent"): 16},
    ),
    Flood(
        "4 connections of webhooks that never end",
        4,
        notify_for_ever,
        {("POST 202",): 10},
        reached=endless_webhooks,
    ),
    # Answered, or refused as more of an account than a node takes at once.
    Flood(
        "48 connections of small requests",
        48,
        post(CHAT, SMALL),
        {("POST 200",): 20, ("POST 200", "POST 429", "POST 503"): 200},
    ),
    Flood(
        "48 connections of invented keys",
        48,
        invent_key,
        {("POST 401",): 20, ("POST 401", "POST 429", "POST 503"): 200},
        has_key=False,
    ),
    Flood("64 connections of bodies that stall", 64, stall, {STALLED: 1, (*STALLED, *REFUSED): 64}),
)


@contextmanager
def flooding(flood: Flood, hostile: Hostile) -> Iterator[Counter[str]]:
    """Flood the stack for the length of the block; the answers are counted, "POST 202" or "cut"."""
    is_over = threading.Event()
    answers: Counter[str] = Counter()
    lock = threading.Lock()
    headers = dict(hostile.attacker.headers) if flood.has_key else {}
    headers.pop("host", None)

    def count(answer: str) -> None:
        with lock:
            answers[answer] += 1

    def run(number: int) -> None:
        address = f"127.0.1.{number + 1}" if flood.has_addresses else "127.0.0.1"
        hooks = {
            "response": [lambda answer: count(f"{answer.request.method} {answer.status_code}")]
        }
        with httpx.Client(
            base_url=hostile.stack.url,
            headers=headers,
            timeout=30,
            event_hooks=hooks,
            transport=httpx.HTTPTransport(local_address=address),
        ) as client:
            while not is_over.is_set():
                try:
                    answer = flood.step(hostile, client)
                    # Of a step without the client.
                    if isinstance(answer, str):
                        count(answer)
                except httpx.ReadTimeout:
                    # Idle for as long as the step waits.
                    count("silent")
                except httpx.TransportError:
                    # Refused while the body was being sent.
                    count("cut")

    # Made before the flood: it takes seconds.
    bombs()
    threads = [
        threading.Thread(target=run, args=(number,), daemon=True)
        for number in range(flood.connections)
    ]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        cancel_jobs(hostile)


def cancel_jobs(hostile: Hostile) -> None:
    """Cancel what the attacker's jobs have left to do, so that the next flood begins at once.

    As an operator does: the attacker's own requests wait for its rate limit, for most of a minute.
    """
    which = ("--account", "attacker", "--limit", "10000", "--json")
    for status in ("queued", "running"):
        while jobs := json.loads(manage(hostile.stack, "jobs", "list", "--status", status, *which)):
            # One that has ended since then is reported, and the others are cancelled.
            hostile.stack.run("jobs", "cancel", *(job["id"] for job in jobs))
            time.sleep(CANCEL_SECONDS)
