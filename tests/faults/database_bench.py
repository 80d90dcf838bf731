"""A stack whose PostgreSQL servers stand behind names, and clients that write and read there."""

from __future__ import annotations

import contextlib
import glob
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from tests.faults.chains import NAMES
from tests.faults.lone_postgres import LonePostgres
from tests.support.forwarder import Forwarder
from tests.support.own_stack import OwnStack
from tests.support.waiting import eventually

CONVERSATIONS = "/v1/conversations"
POOL_TIMEOUT_SECONDS = 12.0
BACK_SECONDS = 30.0
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.faults.chains.{name}" for name in NAMES),
    "POSITION_SECONDS": "4",
    "REPLICA_MAX_LAG_SECONDS": "2",
    "DATABASE_PROBE_SECONDS": "1",
    "DATABASE_POOL_TIMEOUT_SECONDS": f"{POOL_TIMEOUT_SECONDS:g}",
    "OVERLOAD_DELAY_SECONDS": "0",
    # A busy machine's Redis is slow, and what it does not say in time is read from the primary.
    "REDIS_TIMEOUT_SECONDS": "1",
    "WEBHOOK_ALLOW_PRIVATE": "true",
}
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request, when it was sent and how long it took."""

    status: int
    sent_at: float
    seconds: float
    may_retry: bool
    body: str

    @property
    def is_refusal(self) -> bool:
        """Whether it is a 503 that has a client come again."""
        return self.status == 503 and self.may_retry


class Clock:
    """A clock of some processes, which a test sets while they run; without libfaketime theirs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        libraries = glob.glob(FAKETIME)
        self.env: dict[str, str] = {}
        if libraries:
            self.set(0)
            self.env = {
                "LD_PRELOAD": libraries[0],
                "PYTHONPATH": str(Path(__file__).parent / "clock_site"),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_CACHE_DURATION": "1",
                # A clock that is set leaves the monotonic one alone.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    def set(self, seconds: int) -> None:
        """Set it ahead, or back."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


class Bench:
    """The primary `first` and its replica `second`, each behind a name, and a node and a worker."""

    def __init__(self, root: Path, data_dir: Path) -> None:
        self._root = root
        self.clock, self.primary_clock = Clock(root / "clock"), Clock(root / "primary-clock")
        self.first = LonePostgres(data_dir, env=self.primary_clock.env)
        self.second = LonePostgres(root / "second")
        self.acknowledged: set[str] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start everything; all parts of the stack have a clock that a test may set."""
        with contextlib.ExitStack() as stack:
            self.first.create()
            stack.callback(self.first.stop)
            self.second.copy(self.first)
            stack.callback(self.second.stop)
            self.primary_name = stack.enter_context(Forwarder(self.first.port))
            self.replica_name = stack.enter_context(Forwarder(self.second.port))
            urls = {
                "DATABASE_URL": self.first.url(self.primary_name.port),
                "DATABASE_REPLICA_URLS": f"near={self.second.url(self.replica_name.port)}",
            }
            arguments = ("--nodes=1", "--workers=1", "--no-llm")
            self.stack = OwnStack(
                self._root / "s", arguments=arguments, env={**ENV, **self.clock.env, **urls}
            )
            stack.callback(self.stack.stop)
            self.stack.start()
            for chain in ("quick", "slow"):
                made = self.stack.manage("chains", "add", chain, "--runnable", chain)
                assert made.returncode == 0, made.stderr
            (self.node,) = (
                p["address"] for p in self.stack.status()["parts"] if p["kind"] == "node"
            )
            headers = {"Authorization": f"Bearer {self.stack.demo_key}"}
            self.http = httpx.Client(base_url=self.stack.url, headers=headers, timeout=30)
            stack.callback(self.http.close)
            yield

    def node_seconds_ahead(self) -> float:
        """Return how far a node's clock is ahead, by the date of its answers."""
        date = httpx.get(f"http://{self.node}/health/live", timeout=10).headers["Date"]
        return parsedate_to_datetime(date).timestamp() - time.time()

    def run_job(self, **fields: str) -> dict[str, Any]:
        """Submit a job and return it when it has ended."""
        return self.ended(self.submit(**fields))

    def submit(self, **fields: str) -> str:
        """Submit a job and return its id."""
        response = self.http.post("/v1/jobs", json={"chain": "quick", **fields})
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def ended(self, job_id: str, *, seconds: float = BACK_SECONDS) -> dict[str, Any]:
        """Return a job when it has ended."""
        job: dict[str, Any] = {}

        def has_ended() -> bool:
            job.update(self.http.get(f"/v1/jobs/{job_id}").json())
            return job.get("status") in ("succeeded", "failed", "cancelled")

        eventually(has_ended, seconds=seconds, what=f"the job has ended: {job}")
        return job

    def post(self) -> Answer:
        """Make a conversation."""
        answer = self._send("POST", CONVERSATIONS, json={"chain": "quick"})
        if answer.status == 201:
            self.acknowledged.add(httpx.Response(201, content=answer.body).json()["id"])
        return answer

    def get(self) -> Answer:
        """Read a conversation, not from the cache."""
        path = f"{CONVERSATIONS}/{min(self.acknowledged)}"
        return self._send("GET", path, headers={"Cache-Control": "no-cache"})

    def many(self, *, posts: int = 0, gets: int = 0) -> tuple[list[Answer], list[Answer]]:
        """Write and read so often at once."""
        with ThreadPoolExecutor(posts + gets) as pool:
            writes = [pool.submit(self.post) for _ in range(posts)]
            reads = [pool.submit(self.get) for _ in range(gets)]
            return [one.result() for one in writes], [one.result() for one in reads]

    def await_good(self) -> None:
        """Wait until writes and reads succeed, and the replica has its part of the reads."""

        def is_good() -> bool:
            return self.post().status == 201 and self.get().status == 200 and self.is_in_rotation()

        eventually(is_good, seconds=BACK_SECONDS, what="writes and reads succeed again")

    def is_in_rotation(self) -> bool:
        """Return whether the node reads from the replica."""
        text = httpx.get(f"http://{self.node}/metrics", timeout=10).text
        return 'headrace_database_in_rotation{server="near"} 1.0' in text

    def lost(self) -> set[str]:
        """Return the conversations that were acknowledged and that the primary does not have."""
        server = self.second if self.primary_name.target == self.second.port else self.first
        rows = server.query("SELECT 'conv_' || replace(id::text, '-', '') FROM chat_conversation")
        return self.acknowledged - {str(row[0]) for row in rows}

    def _send(self, method: str, path: str, **options: object) -> Answer:
        sent_at = time.monotonic()
        response = self.http.request(method, path, **options)  # type: ignore[arg-type]
        return Answer(
            status=response.status_code,
            sent_at=sent_at,
            seconds=time.monotonic() - sent_at,
            may_retry="retry-after" in response.headers,
            body=response.text,
        )


@contextlib.contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Path]:
    """Yield a directory on a disk of its own, which takes root."""
    path.mkdir()
    options = f"size={megabytes}m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Steady:
    """Writes and reads in turn in the background, by one thread each."""

    def __init__(self, bench: Bench, *, every_seconds: float = 0.25) -> None:
        self.writes: list[Answer] = []
        self.reads: list[Answer] = []
        self._every_seconds = every_seconds
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(bench.post, self.writes)),
            threading.Thread(target=self._run, args=(bench.get, self.reads)),
        ]

    def __enter__(self) -> Steady:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, send: object, answers: list[Answer]) -> None:
        while not self._is_over.wait(self._every_seconds):
            answers.append(send())  # type: ignore[operator]
