"""What a webhook's receiver gets, and how little it can do to the sender."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from standardwebhooks import Webhook, WebhookVerificationError

from access.services import create_key
from jobs.models import WebhookSecret
from jobs.notifications import connections, secrets
from jobs.notifications.outcomes import Outcome
from jobs.notifications.webhooks import make_message, send
from jobs.schemas import job_body
from scaling.connections import release_connections
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
    in_turn,
    redirect,
)
from tests.jobs.notifications.rows import make_account, make_delivery, make_job
from tests.support.waiting import slack

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _local_receivers(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture
def short_time(settings: Any) -> None:
    """Little time for each webhook."""
    settings.WEBHOOK_TIMEOUT_SECONDS = 0.6


def deliver(url: str, **fields: Any) -> Outcome:
    """Send one webhook."""
    delivery = make_delivery(url, **fields)
    return send(make_message(delivery, secrets=secrets.current_secrets(delivery.account_id)))


def timed(url: str) -> tuple[Outcome, float]:
    """Send one webhook; return also how long that took."""
    message = make_message(make_delivery(url), secrets=["whsec_c2VjcmV0"])
    started = time.monotonic()
    return send(message), time.monotonic() - started


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


# --- Redirects ----------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_is_posted_again(status: int) -> None:
    with Receiver(answer(200)) as last, Receiver(redirect(last.url("/new"), status)) as first:
        assert deliver(first.url()).is_delivered
    assert last.received[0].path == "/new"
    assert last.received[0].body == first.received[0].body
    assert last.received[0].headers["host"] == f"127.0.0.1:{last.port}"


def test_a_relative_redirect_is_followed() -> None:
    with Receiver(in_turn(redirect("../next?x=1"), answer(200))) as receiver:
        assert deliver(receiver.url("/a/b")).is_delivered
    assert [received.path for received in receiver.received] == ["/a/b", "/next?x=1"]


def test_an_unknown_name_is_a_failure(capfd) -> None:
    assert "gaierror" in deliver("http://no-such-name.invalid/").error
    assert "Traceback" not in capfd.readouterr().err


def test_redirects_end_after_three() -> None:
    with Receiver(redirect("/again")) as receiver:
        outcome = deliver(receiver.url())
    assert len(receiver.received) == 4
    assert outcome.error == "more than 3 redirects"


@pytest.mark.usefixtures("short_time")
def test_redirects_share_the_time() -> None:
    def slow_redirect(receiver: Receiver, handler: Any) -> None:
        time.sleep(0.35)
        redirect("/again")(receiver, handler)

    with Receiver(slow_redirect) as receiver:
        outcome, _ = timed(receiver.url())
    assert outcome.error == "no answer within 0.6 s"
    assert len(receiver.received) < 4


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:1/", "//127.0.0.1/", "http://localhost/", "http://169.254.169.254/latest",
     "http://[::ffff:127.0.0.1]/", "http://2130706433/", "file:///etc/passwd", "http://u:p@8.8.8.8/",
     "http://"],
)  # fmt: skip
def test_each_redirects_address_is_checked(location: str, settings) -> None:
    def forbid_and_redirect(receiver: Receiver, handler: Any) -> None:
        # The first receiver must be reachable here, and the one that it leads to must not be.
        settings.WEBHOOK_ALLOW_PRIVATE = False
        redirect(location)(receiver, handler)

    with Receiver(forbid_and_redirect) as receiver:
        outcome = deliver(receiver.url())
    assert outcome.error.startswith("the address must")
    assert len(receiver.received) == 1


def test_a_private_receiver_gets_nothing(settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with Receiver(answer(200)) as receiver:
        for host in ("127.0.0.1", "localhost", "2130706433"):
            assert "private address" in deliver(receiver.url(host=host)).error
    assert receiver.received == []


# --- TLS ----------------------------------------------------------------------------------------
@pytest.fixture
def tls(tmp_path: Path, monkeypatch) -> Any:
    """A server's TLS for `localhost`, whose certificate the sender trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "certificate.pem").write_bytes(pem)
    (tmp_path / "both.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    # OpenSSL's own variable for the authorities that a process trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    connections.tls_context.cache_clear()
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    context.names = []
    context.sni_callback = lambda _, name, __: context.names.append(name)
    yield context
    connections.tls_context.cache_clear()


def test_https_sends_the_name_and_verifies_it(tls: Any) -> None:
    with Receiver(answer(200), tls=tls) as receiver:
        assert deliver(receiver.url(host="localhost")).is_delivered
    assert tls.names == ["localhost"]
    assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"


def test_https_refuses_a_certificate_of_another_name(tls: Any) -> None:
    with Receiver(answer(200), tls=tls) as receiver:
        assert "CERTIFICATE_VERIFY_FAILED" in deliver(receiver.url()).error
    assert receiver.received == []


def test_https_refuses_an_unknown_certificate(tls: Any, monkeypatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    connections.tls_context.cache_clear()
    with Receiver(answer(200), tls=tls) as receiver:
        assert "CERTIFICATE_VERIFY_FAILED" in deliver(receiver.url(host="localhost")).error


def test_https_never_falls_back_to_http(tls: Any) -> None:
    with (
        Receiver(answer(200)) as plain,
        Receiver(redirect(plain.url()), tls=tls) as receiver,
    ):
        outcome = deliver(receiver.url(host="localhost"))
    assert "https to another scheme" in outcome.error
    assert plain.received == []


# --- Secrets ------------------------------------------------------------------------------------
def test_each_account_has_one_lasting_secret() -> None:
    first, second = make_account(), make_account()
    (secret,) = secrets.current_secrets(first.pk)
    assert secret.startswith("whsec_")
    assert secrets.current_secrets(first.pk) == [secret]
    assert secrets.current_secrets(second.pk) != [secret]
    row = WebhookSecret.objects.get(account=first)
    assert secret[6:20] not in json.dumps([row.salt, str(row.pk)])


@pytest.mark.django_db(transaction=True)
def test_an_accounts_first_secret_is_made_once() -> None:
    account = make_account()
    barrier = threading.Barrier(6)

    def ask(_: int) -> str:
        try:
            barrier.wait(10)
            return secrets.secret_of(secrets.current(account.pk))
        finally:
            release_connections()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    assert WebhookSecret.objects.filter(account=account).count() == 1


def test_a_replaced_secret_signs_until_its_time_is_over() -> None:
    account = make_account()
    (old,) = secrets.current_secrets(account.pk)
    new = secrets.secret_of(secrets.rotate(account.pk))
    assert secrets.current_secrets(account.pk) == [new, old]
    message = make_message(
        make_delivery("http://127.0.0.1/", make_job(account)),
        secrets=secrets.current_secrets(account.pk),
    )
    for secret in (new, old):
        Webhook(secret).verify(message.body, message.headers)
    newest = secrets.secret_of(secrets.rotate(account.pk, overlap_hours=0))
    assert secrets.current_secrets(account.pk) == [newest]
    with pytest.raises(WebhookVerificationError):
        Webhook(newest).verify(message.body, message.headers)


def test_rotating_again_and_again_leaves_few_secrets() -> None:
    account = make_account()
    made = [secrets.secret_of(secrets.rotate(account.pk)) for _ in range(10)]
    assert secrets.current_secrets(account.pk) == made[: -secrets.MAX_LIVE - 1 : -1]
    assert WebhookSecret.objects.filter(account=account).count() == secrets.MAX_LIVE


def test_secrets_of_a_former_secret_key_sign_while_it_is_a_fallback(settings) -> None:
    account = make_account()
    (old,) = secrets.current_secrets(account.pk)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    new, also = secrets.current_secrets(account.pk)
    assert also == old
    settings.SECRET_KEY_FALLBACKS = []
    assert secrets.current_secrets(account.pk) == [new]


def test_the_api_shows_the_secret_and_rotates_it(client: Client) -> None:
    made = create_key(name="jobs", account_name="webhook secrets")
    headers = {"Authorization": f"Bearer {made.secret}"}
    shown = client.get("/v1/webhook_secret", headers=headers)
    assert shown.status_code == 200
    assert shown.json()["object"] == "webhook_secret"
    assert shown["Cache-Control"] == "no-store"
    assert secrets.current_secrets(made.key.account_id) == [shown.json()["secret"]]
    assert client.get("/v1/webhook_secret", headers=headers).json() == shown.json()
    rotated = client.post("/v1/webhook_secret/rotate", headers=headers)
    assert rotated.status_code == 200
    assert client.get("/v1/webhook_secret", headers=headers).json() == rotated.json()
    assert rotated.json()["secret"] != shown.json()["secret"]
    chat_only = create_key(name="chat", account_name="webhook secrets", scopes=["chat"])
    headers = {"Authorization": f"Bearer {chat_only.secret}"}
    assert client.get("/v1/webhook_secret", headers=headers).status_code == 403
    assert client.post("/v1/webhook_secret/rotate", headers=headers).status_code == 403


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
