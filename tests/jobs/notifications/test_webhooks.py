"""What a webhook's receiver gets, and how little it can do to the sender."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import gevent
import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.notifications import connections, secrets
from jobs.notifications.outcomes import Outcome
from jobs.notifications.webhooks import make_message, send
from jobs.schemas import job_body
from tests.jobs.notifications.receivers import (
    Receiver,
    answer,
    drip_body,
    drip_headers,
    endless_body,
    endless_continue,
    endless_extensions,
    endless_headers,
    endless_line,
    endless_trailers,
    garbage,
    hang,
)
from tests.jobs.notifications.rows import make_delivery, make_job
from tests.jobs.notifications.sending import deliver, timed
from tests.support.waiting import slack

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_receivers")]


# --- What is sent -------------------------------------------------------------------------------
def test_a_receiver_can_verify_what_it_gets() -> None:
    with Receiver(answer(200)) as receiver:
        delivery = make_delivery(receiver.url("/a/b?c=d#e"))
        (secret,) = secrets.current_secrets(delivery.account_id)
        outcome = send(make_message(delivery, secrets=[secret]))
    assert outcome == Outcome(is_delivered=True, status_code=200)
    (received,) = receiver.received
    assert received.path == "/a/b?c=d"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["webhook-id"] == f"evt_{delivery.id.hex}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("Headrace/")
    event = Webhook(secret).verify(received.body, received.headers)
    assert event == {
        "id": f"evt_{delivery.id.hex}",
        "type": "job.succeeded",
        "created_at": int(delivery.created_at.timestamp()),
        "data": job_body(delivery.job),
    }
    assert event["data"]["output"] == {"answer": 42}
    assert b"of the client" not in received.body
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(received.body + b" ", received.headers)


def test_openais_sdk_unwraps_it() -> None:
    with Receiver(answer(204)) as receiver:
        delivery = make_delivery(receiver.url(), make_job(output="Grüße"))
        (secret,) = secrets.current_secrets(delivery.account_id)
        assert send(make_message(delivery, secrets=[secret])).is_delivered
    (received,) = receiver.received
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    event: Any = client.webhooks.unwrap(received.body, received.headers)
    assert event.type == "job.succeeded"
    assert event.data.output == "Grüße"
    other = openai.OpenAI(api_key="none", webhook_secret="whsec_b3RoZXI=")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        other.webhooks.unwrap(received.body, received.headers)


# --- What the receiver answers ------------------------------------------------------------------
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_delivery(status: int) -> None:
    with Receiver(answer(status)) as receiver:
        assert deliver(receiver.url()) == Outcome(is_delivered=True, status_code=status)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 400, 401, 404, 409, 429, 500, 503])
def test_every_other_status_is_a_failure_that_may_pass(status: int) -> None:
    with Receiver(answer(status, b"no\0pe", {"Location": "/elsewhere"})) as receiver:
        outcome = deliver(receiver.url())
    assert not outcome.is_delivered
    assert not outcome.is_permanent
    assert outcome.status_code == status
    assert "\0" not in outcome.error
    assert len(receiver.received) == 1


def test_a_receivers_response_is_stored_although_it_comes_in_parts() -> None:
    def in_parts(_: Receiver, handler: Any) -> None:
        for part in (b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n", b"one ", b"two", b" 3"):
            handler.wfile.write(part)
            time.sleep(0.1)

    with Receiver(in_parts) as receiver:
        assert deliver(receiver.url()).error == "status 500: one two 3"


def test_gone_means_never_again() -> None:
    with Receiver(answer(410, b"unsubscribed")) as receiver:
        outcome = deliver(receiver.url())
    assert outcome.is_permanent
    assert outcome.error == "status 410: unsubscribed"


@pytest.mark.usefixtures("short_time")
@pytest.mark.parametrize("behave", [hang, drip_headers, drip_body])
def test_a_slow_receiver_is_given_up_in_time(behave: Any) -> None:
    with Receiver(behave) as receiver:
        outcome, seconds = timed(receiver.url())
    assert not outcome.is_delivered
    assert 0.5 < seconds < slack(3)


@pytest.mark.usefixtures("short_time")
def test_a_receiver_that_does_not_read_is_given_up_in_time() -> None:
    job = make_job(output="x" * 30_000_000)
    with Receiver(answer(200)) as receiver:
        handlers: Any = receiver.server.RequestHandlerClass
        handlers.do_POST = lambda handler: hang(receiver, handler)
        message = make_message(make_delivery(receiver.url(), job), secrets=["whsec_c2VjcmV0"])
        started = time.monotonic()
        outcome = send(message)
    assert outcome.error == "no answer within 0.6 s"
    assert time.monotonic() - started < slack(5)


def test_an_endless_answer_is_not_read_to_its_end(settings) -> None:
    settings.WEBHOOK_TIMEOUT_SECONDS = 30
    settings.WEBHOOK_MAX_RESPONSE_BYTES = 100_000
    with Receiver(endless_body) as receiver:
        outcome, seconds = timed(receiver.url())
    assert outcome.status_code == 500
    assert len(outcome.error) == 500
    assert seconds < slack(15)


@pytest.mark.parametrize(
    "behave",
    [endless_continue, endless_trailers, endless_extensions, endless_headers, endless_line],
    ids=["continue", "trailers", "extensions", "headers", "line"],
)
def test_what_http_client_would_read_for_ever_is_cut_off(behave: Any, settings: Any) -> None:
    settings.WEBHOOK_TIMEOUT_SECONDS = 30
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    other = gevent.spawn(take_turns)
    with Receiver(behave) as receiver:
        outcome, seconds = timed(receiver.url())
    other.kill()
    assert not outcome.is_delivered
    assert "within" not in outcome.error
    assert seconds < slack(15)
    # Each read lets others have a turn.
    assert turns > 3


def test_few_of_many_addresses_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))] * 1000
    monkeypatch.setattr(connections, "look_up", lambda host, port: list(found))
    addresses = connections.resolve("many.example", 1, connections.Deadline(5))
    assert len(addresses) == connections.MAX_ADDRESSES


def test_an_attempt_is_over_only_when_its_name_server_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def look_up(host: str, port: int) -> OSError:
        answered.wait(30)
        return OSError("late")

    monkeypatch.setattr(connections, "look_up", look_up)

    def attempt() -> None:
        with pytest.raises(TimeoutError, match="DNS"):
            connections.resolve("hanging.example", 1, connections.Deadline(0.2))
        connections.finish_lookup()

    trying = gevent.spawn(attempt)
    trying.join(1)
    assert not trying.ready()
    answered.set()
    trying.get(timeout=10)


def test_no_answer_at_all_is_a_failure() -> None:
    with Receiver(garbage) as receiver:
        assert "BadStatusLine" in deliver(receiver.url()).error
        url = receiver.url()
    assert "ConnectionRefused" in deliver(url).error


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("1000000", 3600.0), ("x", 0.0)])
def test_a_receiver_says_when_to_come_again(value: str, seconds: float) -> None:
    with Receiver(answer(429, headers={"Retry-After": value})) as receiver:
        delivery = make_delivery(receiver.url())
        outcome = send(make_message(delivery, secrets=[]))
    assert not outcome.is_delivered
    assert outcome.retry_after_seconds == seconds


def test_a_number_of_any_size_is_in_the_message() -> None:
    delivery = make_delivery("https://example.org/", make_job(output={"mass": 2**70}))
    assert json.loads(make_message(delivery, secrets=[]).body)["data"]["output"] == {"mass": 2**70}
