"""Nothing is lost: 200 jobs and more in flight, while every process that can break does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

from tests.faults.conftest import LEASE_SECONDS
from tests.faults.harness import Faults
from tests.stack_plugin import BASE_DIR, free_public_port

COUNT = 220
DUPLICATES = """
from jobs.queue.messages import send
assert all(send("job_of_nobody") for _ in range({count}))
"""

pytestmark = pytest.mark.timeout(180)


def start(faults: Faults, mark: str) -> list[str]:
    """Post the jobs and wait until some run."""
    ids = faults.post_many(COUNT, mark=mark)
    faults.wait_until(lambda: faults.running() > 20, seconds=10, why="nothing runs")
    return ids


def test_nothing_is_lost_when_a_worker_is_killed(faults: Faults) -> None:
    ids = start(faults, "one worker")
    faults.kill_busiest_worker()
    faults.wait_for_all()
    faults.check(ids)
    lost = faults.query("SELECT count(*) FROM jobs_attempt WHERE outcome = 'lost'")
    assert lost[0][0] > 0, "the kill came too late to hit anything"


def test_nothing_is_lost_when_all_workers_are_killed(faults: Faults) -> None:
    ids = start(faults, "all workers")
    faults.kill("worker")
    faults.wait_for_all()
    faults.check(ids)


def test_jobs_of_a_web_node_that_is_killed_are_run(faults: Faults) -> None:
    accepted: list[str] = []
    stop = threading.Event()

    def post(number: int) -> None:
        while not stop.is_set():
            text = f"node {number} {time.monotonic()}"
            try:
                response = faults.post(text, chain="quick")
            except httpx.HTTPError:
                continue
            assert response.status_code in (202, 502, 503), response.text
            if response.status_code == 202:
                accepted.append(response.json()["id"])

    before = faults.query("SELECT count(*) FROM jobs_job")[0][0]
    with ThreadPoolExecutor(8) as threads:
        posters = [threads.submit(post, number) for number in range(8)]
        for _ in range(3):
            time.sleep(1)
            faults.kill("node", count=1)
        time.sleep(2)
        stop.set()
        for poster in posters:
            poster.result()
    faults.wait_for_all()
    assert len(accepted) >= COUNT
    faults.check(accepted)
    # Also those whose answer was lost with the node.
    after = faults.query("SELECT count(*) FROM jobs_job")[0][0]
    assert after - before >= len(accepted)


def test_nothing_is_lost_when_redis_forgets_everything(faults: Faults) -> None:
    ids = faults.post_many(COUNT * 3, mark="redis")
    faults.redis().flushall()
    faults.kill("redis")
    faults.wait_for_all()
    faults.check(ids)


def test_jobs_are_accepted_while_the_broker_is_down(faults: Faults) -> None:
    (pid,) = faults.pids("redis")
    started = time.monotonic()
    with faults.frozen(pid):
        ids = faults.post_many(COUNT, mark="broker away", chain="quick")
        time.sleep(max(0.0, 20 - (time.monotonic() - started)))
    faults.wait_for_all()
    faults.check(ids)


def test_nothing_is_lost_when_postgresql_restarts(faults: Faults) -> None:
    ids = start(faults, "postgres")
    (pid,) = faults.pids("primary")
    os.kill(pid, signal.SIGINT)
    faults.wait_for_all()
    faults.check(ids)


def test_messages_that_come_twice_or_late_do_nothing(faults: Faults) -> None:
    ids = start(faults, "duplicates")
    faults.python(DUPLICATES.format(count=COUNT * 2))
    faults.wait_for_all()
    time.sleep(LEASE_SECONDS + 1)
    faults.python(DUPLICATES.format(count=COUNT))
    time.sleep(2)
    faults.check(ids)
    attempts = faults.query(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM jobs_attempt WHERE job_id = ANY(%s::uuid[])"
        " GROUP BY job_id) AS t",
        [job_id.removeprefix("job_") for job_id in ids],
    )
    assert attempts[0][0] == 1


def test_a_worker_that_was_frozen_past_its_lease_changes_nothing(faults: Faults) -> None:
    ids = start(faults, "frozen")
    pid = faults.pids("worker")[0]
    with faults.frozen(pid):
        # Long enough for the other worker to take over and to finish.
        time.sleep(LEASE_SECONDS + 4)
        faults.wait_for_all()
        faults.check(ids)
        told = faults.query("SELECT id, output, last_event, status FROM jobs_job ORDER BY id")
    time.sleep(4)
    assert faults.query("SELECT id, output, last_event, status FROM jobs_job ORDER BY id") == told
    faults.check(ids)


def test_a_cancel_that_races_with_the_end_returns_the_true_status(faults: Faults) -> None:
    said: dict[str, str] = {}

    def post_and_cancel(number: int) -> str:
        (job_id,) = faults.post_many(1, mark=f"cancel {number}")
        # Spread around the moment at which they end.
        time.sleep(number % 11 * 0.2)
        response = faults.http.post(f"/v1/jobs/{job_id}/cancel")
        assert response.status_code == 200, response.text
        said[job_id] = response.json()["status"]
        return job_id

    with ThreadPoolExecutor(COUNT) as threads:
        ids = list(threads.map(post_and_cancel, range(COUNT)))
    faults.wait_for_all(seconds=30)
    faults.check(ids, statuses=("succeeded", "cancelled"))
    ended = {job_id: faults.job(job_id)["status"] for job_id in ids}
    for job_id, word in said.items():
        if word in ("succeeded", "cancelled"):
            assert ended[job_id] == word, job_id
    assert set(ended.values()) == {"succeeded", "cancelled"}


@pytest.mark.parametrize("chain", ["deadly", "segfault"])
def test_a_job_that_kills_its_worker_fails_and_no_other_job_does(
    faults: Faults, chain: str
) -> None:
    ids = faults.post_many(COUNT, mark=chain)
    bad = faults.post("poison", chain=chain).json()["id"]
    faults.wait_for_all(seconds=120)
    faults.check(ids)
    faults.check([bad], statuses=("failed",))
    body = faults.job(bad)
    assert body["error"]["code"] == "worker_lost"
    assert body["attempts"] == 3


@pytest.mark.parametrize("chain", ["stuck", "busy"])
def test_a_job_that_blocks_its_worker_times_out_and_the_others_go_on(
    faults: Faults, chain: str
) -> None:
    ids = faults.post_many(COUNT, mark=chain)
    bad = faults.post("block", chain=chain, timeout_seconds=1).json()["id"]
    faults.wait_for_all(seconds=90)
    faults.check(ids)
    faults.check([bad], statuses=("failed",))
    body = faults.job(bad)
    assert (body["error"]["code"], body["attempts"]) == ("job_timeout", 1)
    rows = faults.query(
        "SELECT count(*) FROM jobs_attempt WHERE outcome = 'lost' AND job_id = ANY(%s::uuid[])",
        [job_id.removeprefix("job_") for job_id in ids],
    )
    assert rows[0][0] == 0, "innocent jobs paid for it"


def test_what_blocks_workers_unseen_costs_other_jobs_no_attempt(faults: Faults) -> None:
    ids = faults.post_many(COUNT, mark="unseen")
    bad = faults.post("block", chain="unseen", max_attempts=1).json()["id"]
    faults.wait_for_all(seconds=120)
    faults.check(ids)
    # Two workers are lost to it before an attempt counts; the third time is its last.
    faults.check([bad], statuses=("failed",))
    body = faults.job(bad)
    assert (body["error"]["code"], body["attempts"]) == ("worker_lost", 1)
    assert faults.query("SELECT losses FROM jobs_job WHERE id = %s", bad.removeprefix("job_")) == [
        (3,)
    ]
    counted = faults.query(
        "SELECT count(*) FROM jobs_job WHERE attempts > 1 AND id = ANY(%s::uuid[])",
        [job_id.removeprefix("job_") for job_id in ids],
    )
    assert counted == [(0,)], "innocent jobs paid for it"


def test_a_worker_that_stops_requeues_its_jobs_at_once(faults: Faults) -> None:
    ids = start(faults, "deploy")
    for pid in faults.pids("worker"):
        os.kill(pid, signal.SIGTERM)
    faults.wait_for_all(seconds=45)
    faults.check(ids)
    rows = faults.query(
        "SELECT count(*) FILTER (WHERE outcome = 'lost') FROM jobs_attempt"
        " WHERE job_id = ANY(%s::uuid[])",
        [job_id.removeprefix("job_") for job_id in ids],
    )
    assert rows[0][0] == 0


class Receiver(BaseHTTPRequestHandler):
    """Hangs, fails or redirects to itself at first, and takes every webhook at its second try."""

    seen: ClassVar[Counter[str]] = Counter()
    taken: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        webhook = self.headers["webhook-id"]
        self.seen[webhook] += 1
        number = len(self.seen)
        if self.seen[webhook] == 1 and number % 3 == 0:
            # Longer than WEBHOOK_TIMEOUT_SECONDS.
            time.sleep(4)
            return
        if self.seen[webhook] == 1 and number % 3 == 1:
            self.send_response(500)
        elif self.path == "/hook":
            self.send_response(307)
            self.send_header("Location", "/moved")
        else:
            self.taken[webhook] += 1
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


def test_every_webhook_arrives_at_a_receiver_that_fails_at_first(faults: Faults) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        ids = faults.post_many(COUNT, mark="webhook", chain="quick", webhook_url=url)
        faults.wait_for_all()
        faults.check(ids)
        pending = "SELECT count(*) FROM jobs_delivery WHERE status = 'pending'"
        faults.wait_until(
            lambda: faults.query(pending)[0][0] == 0, seconds=90, why="webhooks are not delivered"
        )
        rows = faults.query("SELECT status, count(*) FROM jobs_delivery GROUP BY 1")
        assert rows == [("delivered", COUNT)]
        assert len(Receiver.taken) == COUNT
    finally:
        server.shutdown()
        server.server_close()


def test_a_worker_whose_clock_is_wrong_does_no_harm(faults: Faults) -> None:
    faketime = shutil.which("faketime")
    if faketime is None:
        if os.environ.get("CI"):
            pytest.fail("faketime is not installed")
        pytest.skip("faketime is not installed")
    port = free_public_port()
    environment = {
        **faults.stack.env,
        "WORKER_NAME": "worker-in-the-future",
        "WORKER_BIND": f"127.0.0.1:{port}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    process = subprocess.Popen(
        [faketime, "-f", "+120s", sys.executable, "-m", "jobs.worker"],
        env=environment,
        cwd=BASE_DIR,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        alive = "SELECT count(*) FROM jobs_worker WHERE name = %s AND lease_until > now()"
        faults.wait_until(
            lambda: faults.query(alive, "worker-in-the-future")[0][0] == 1,
            seconds=30,
            why="the worker did not come",
        )
        # Long enough for it to reap, if its clock made it think that others are dead.
        time.sleep(LEASE_SECONDS + 2)
        ids = start(faults, "clock")
        faults.wait_for_all()
        faults.check(ids)
        rows = faults.query(
            "SELECT count(*) FILTER (WHERE outcome <> 'succeeded'),"
            " count(*) FILTER (WHERE worker_name = 'worker-in-the-future') FROM jobs_attempt"
            " WHERE job_id = ANY(%s::uuid[])",
            [job_id.removeprefix("job_") for job_id in ids],
        )
        assert rows[0][0] == 0
        assert rows[0][1] > 0, "it ran nothing"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
