"""Post many jobs, break something, and look at every job afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx
import psutil
import psycopg
import redis

from tests.stack_plugin import EmbeddedStack
from tests.support.waiting import eventually

POSTERS = 16
POST_RETRIES = 5
ENDS = ("succeeded", "failed", "cancelled")


class Faults:
    """A stack under test, and what has been posted to it."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.stack = stack
        self.texts: dict[str, str] = {}

    # --- Posting --------------------------------------------------------------------------------
    @cached_property
    def http(self) -> httpx.Client:
        """A client that may be used by many threads."""
        limits = httpx.Limits(max_connections=256)
        headers = {"Authorization": f"Bearer {self.stack.demo_key}"}
        return httpx.Client(base_url=self.stack.url, headers=headers, timeout=30, limits=limits)

    def post(self, text: str, *, chain: str = "slow", **more: Any) -> httpx.Response:
        """Post one job; an accepted one is remembered with its text."""
        response = self.http.post("/v1/jobs", json={"chain": chain, "input": text, **more})
        if response.status_code == 202:
            self.texts[response.json()["id"]] = text
        return response

    def post_many(self, count: int, *, mark: str, chain: str = "slow", **more: Any) -> list[str]:
        """Post this many; every one must be accepted. Returns their ids."""

        def one(number: int) -> str:
            response = self.post(f"{mark} {number}", chain=chain, **more)
            for _ in range(POST_RETRIES):
                if response.status_code != 503:
                    break
                # Too busy for the moment, as Retry-After says.
                time.sleep(float(response.headers["Retry-After"]))
                response = self.post(f"{mark} {number}", chain=chain, **more)
            assert response.status_code == 202, response.text
            return str(response.json()["id"])

        with ThreadPoolExecutor(POSTERS) as threads:
            return list(threads.map(one, range(count)))

    # --- Looking --------------------------------------------------------------------------------
    def env(self, name: str) -> str:
        """Return a setting of the running stack."""
        lines = (self.stack.state_dir / "stack.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            return connection.execute(sql, params).fetchall()

    def redis(self, name: str = "CACHE_URL") -> redis.Redis:
        """Return a client of the stack's Redis."""
        return redis.Redis.from_url(self.env(name))

    def in_flight(self) -> int:
        """Return how many jobs are not over."""
        rows = self.query("SELECT count(*) FROM jobs_job WHERE NOT status = ANY(%s)", list(ENDS))
        return int(rows[0][0])

    def running(self) -> int:
        """Return how many jobs run."""
        return int(self.query("SELECT count(*) FROM jobs_job WHERE status = 'running'")[0][0])

    def wait_until(self, what: Callable[[], Any], *, seconds: float, why: str) -> None:
        """Wait for something to become true."""
        eventually(
            what,
            seconds=seconds,
            what=why,
            every_seconds=0.1,
            errors=(psycopg.OperationalError,),
        )

    def wait_for_all(self, *, seconds: float = 60) -> None:
        """Wait until no job is left."""
        self.wait_until(
            lambda: self.in_flight() == 0, seconds=seconds, why=f"stuck: {self.stuck()}"
        )

    def stuck(self) -> list[tuple[Any, ...]]:
        """Return some jobs that are not over."""
        try:
            return self.query(
                "SELECT id, status, is_due, attempts, error_code FROM jobs_job"
                " WHERE NOT status = ANY(%s) LIMIT 5",
                list(ENDS),
            )
        except psycopg.OperationalError as error:
            return [(str(error),)]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as the API shows it."""
        response = self.http.get(f"/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def check(self, ids: list[str], *, statuses: tuple[str, ...] = ("succeeded",)) -> None:
        """Check each of these jobs: its status, its output, and that each thing came once."""
        uuids = [job_id.removeprefix("job_") for job_id in ids]
        assert len(set(uuids)) == len(uuids)
        rows = self.query(
            """
            SELECT j.id, j.status, j.output, j.last_event, j.lease, j.finished_at IS NOT NULL,
              (SELECT count(*) FROM jobs_attempt a WHERE a.job_id = j.id
               AND a.outcome = 'succeeded'),
              (SELECT count(*) FROM jobs_attempt a WHERE a.job_id = j.id AND a.outcome = 'running'),
              (SELECT array_agg(e.seq ORDER BY e.seq) FROM jobs_event e WHERE e.job_id = j.id),
              (SELECT count(*) FROM jobs_event e WHERE e.job_id = j.id AND e.kind = 'done')
            FROM jobs_job j WHERE j.id = ANY(%s::uuid[])
            """,
            uuids,
        )
        assert len(rows) == len(ids), "jobs were lost"
        for row in rows:
            job_id, status, output, last_event, lease, is_over, won, running, seqs, done = row
            public_id = f"job_{job_id.hex}"
            assert status in statuses, (public_id, status)
            assert is_over, public_id
            assert lease is None, public_id
            assert running == 0, public_id
            assert won == (status == "succeeded"), public_id
            assert done == 1, public_id
            assert seqs == list(range(1, last_event + 1)), public_id
            if status == "succeeded":
                assert output == self.texts[public_id].upper(), public_id

    # --- Breaking -------------------------------------------------------------------------------
    def pids(self, kind: str) -> list[int]:
        """Return the processes of a kind of part."""
        return [part["pid"] for part in self.stack.status()["parts"] if part["kind"] == kind]

    def kill(self, kind: str, *, count: int = 100) -> None:
        """Kill parts of a kind, children included, as the kernel does."""
        for pid in self.pids(kind)[:count]:
            for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                process.send_signal(signal.SIGKILL)

    def kill_busiest_worker(self) -> None:
        """Kill the worker that runs most jobs."""
        rows = self.query(
            "SELECT w.pid FROM jobs_job j JOIN jobs_worker w ON w.id = j.worker_id"
            " WHERE j.status = 'running' GROUP BY w.pid ORDER BY count(*) DESC LIMIT 1"
        )
        os.kill(rows[0][0], signal.SIGKILL)

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """Freeze a process for the length of the block."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wait_ready(self, *, seconds: float = 30) -> None:
        """Wait until every part is ready."""
        self.wait_until(
            lambda: all(part["state"] == "ready" for part in self.stack.status()["parts"]),
            seconds=seconds,
            why="parts are not ready",
        )

    def python(self, code: str) -> str:
        """Run code with the stack's settings, as an operator's shell would."""
        done = self.stack.manage("shell", "--no-imports", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout
