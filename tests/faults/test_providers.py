"""A provider that is frozen, whose certificate has expired, or whose name does not exist."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from tests.faults.authority import Authority
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.harness import Faults
from tests.jobs.notifications.receivers import Receiver, answer
from tests.provider import Provider
from tests.stack_plugin import BASE_DIR, CLEAN_ENVIRONMENT
from tests.support.waiting import slack

SERVE = """
import signal
from tests.provider import Provider
with Provider().running() as provider:
    print(provider.base_url, flush=True)
    signal.pause()
"""
ANSWER = "Hello there."
TIMEOUT_SECONDS = 2
# How long a request may take whose provider says nothing; the rest is for a busy machine.
GIVEN_UP_SECONDS = TIMEOUT_SECONDS + 6
COUNT = 30

pytestmark = pytest.mark.timeout(240)


@contextmanager
def own_provider() -> Iterator[tuple[int, str]]:
    """Run a provider in a process that can be frozen; yields its id and base URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=BASE_DIR,
        env=CLEAN_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def add_chain(faults: Faults, slug: str, base_url: str) -> None:
    """Add a chain that calls this provider, or point it there."""
    faults.python(
        "from chat.models import Chain\n"
        f"Chain.objects.update_or_create(slug={slug!r}, defaults=dict(runnable='ask',"
        f" model='openai:hello', base_url={base_url!r}, timeout_seconds={TIMEOUT_SECONDS}))"
    )
    time.sleep(1)


def post_jobs(faults: Faults, chain: str, count: int) -> list[str]:
    """Post jobs that outlast a provider's absence."""
    ids = faults.post_many(count, mark=chain, chain=chain, max_attempts=20)
    faults.texts.update(dict.fromkeys(ids, ANSWER))
    return ids


def ask(faults: Faults, chain: str, *, stream: bool = False) -> httpx.Response:
    """Call a chain, not its cache."""
    message = {"role": "user", "content": f"Hi {time.monotonic()}"}
    body = {"model": chain, "messages": [message], "stream": stream}
    return faults.http.post("/v1/chat/completions", json=body)


def wait_for_attempts(faults: Faults, ids: list[str], count: int) -> None:
    """Wait until each of these jobs has failed so often."""
    uuids = [job_id.removeprefix("job_") for job_id in ids]
    rows = "SELECT count(*) FROM jobs_attempt WHERE outcome = 'failed' AND job_id = ANY(%s::uuid[])"
    faults.wait_until(
        lambda: faults.query(rows, uuids)[0][0] >= count * len(ids),
        seconds=90,
        why="the jobs are not tried again",
    )


def test_a_frozen_provider_costs_each_request_its_timeout(faults: Faults) -> None:
    with own_provider() as (pid, url):
        add_chain(faults, "asks-frozen", url)
        assert ask(faults, "asks-frozen").status_code == 200
        with faults.frozen(pid):
            ids = post_jobs(faults, "asks-frozen", 3)
            for stream in (False, True):
                began = time.monotonic()
                response = ask(faults, "asks-frozen", stream=stream)
                # A stream whose heartbeat came first says it in an event.
                assert response.status_code == 504 or stream, response.text
                assert '"timeout_error"' in response.text.replace(" ", "")
                assert time.monotonic() - began < slack(GIVEN_UP_SECONDS)
            # Others are served in that time.
            quick = faults.post_many(5, mark="beside", chain="quick")
            wait_for_attempts(faults, ids, 1)
            faults.check(quick)
        faults.wait_for_all(seconds=90)
        faults.check(ids)
        assert ask(faults, "asks-frozen").status_code == 200


def test_a_provider_and_a_worker_that_are_frozen_at_once_lose_nothing(faults: Faults) -> None:
    with own_provider() as (pid, url):
        add_chain(faults, "asks-frozen-too", url)
        with faults.frozen(pid):
            ids = post_jobs(faults, "asks-frozen-too", COUNT)
            faults.wait_until(lambda: faults.running() == COUNT, seconds=20, why="they do not run")
            with faults.frozen(faults.pids("worker")[0]):
                # Past its lease, so that the other takes over.
                time.sleep(LEASE_SECONDS + 3)
            time.sleep(2)
        faults.wait_for_all(seconds=90)
        faults.check(ids)


def test_an_expired_certificate_is_reported_and_a_new_one_accepted(
    faults: Faults, authority: Authority
) -> None:
    provider = Provider()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate(ends_in=timedelta(hours=-1)))
    server = provider.server
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    with provider.running():
        add_chain(faults, "asks-expired", provider.base_url.replace("http:", "https:"))
        response = ask(faults, "asks-expired")
        assert response.status_code == 502, response.text
        assert response.json()["error"]["code"] == "provider_unreachable"
        ids = post_jobs(faults, "asks-expired", 3)
        wait_for_attempts(faults, ids, 1)
        assert provider.calls == []
        context.load_cert_chain(authority.certificate(ends_in=timedelta(hours=1)))
        faults.wait_for_all(seconds=90)
        faults.check(ids)
        assert ask(faults, "asks-expired").status_code == 200


def test_an_unknown_name_is_retried_until_it_resolves(faults: Faults, provider: Provider) -> None:
    add_chain(faults, "asks-unknown", "http://provider.invalid/v1")
    response = ask(faults, "asks-unknown")
    assert response.status_code == 502, response.text
    assert response.json()["error"]["code"] == "provider_unreachable"
    ids = post_jobs(faults, "asks-unknown", 3)
    wait_for_attempts(faults, ids, 1)
    add_chain(faults, "asks-unknown", provider.base_url)
    faults.wait_for_all(seconds=90)
    faults.check(ids)


def test_a_receiver_with_an_unknown_name_delays_no_other(faults: Faults) -> None:
    lost = faults.post_many(
        COUNT, mark="lost", chain="quick", webhook_url="http://receiver.invalid/hook"
    )
    faults.wait_for_all()
    faults.check(lost)
    with Receiver(answer(200)) as receiver:
        ids = faults.post_many(5, mark="found", chain="quick", webhook_url=receiver.url())
        faults.wait_for_all()
        faults.wait_until(
            lambda: len(receiver.received) == len(ids), seconds=30, why="webhooks are held up"
        )
    waiting = faults.query(
        "SELECT count(*) FROM jobs_delivery WHERE status = 'pending' AND target LIKE %s"
        " AND (SELECT bool_and(error LIKE %s) FROM jobs_deliveryattempt a WHERE a.delivery_id ="
        " jobs_delivery.id)",
        "http://receiver.invalid/%",
        "gaierror%",
    )
    # They go on being tried; other tests count theirs.
    faults.query("DELETE FROM jobs_deliveryattempt RETURNING 1")
    faults.query("DELETE FROM jobs_delivery RETURNING 1")
    assert waiting == [(COUNT,)]
