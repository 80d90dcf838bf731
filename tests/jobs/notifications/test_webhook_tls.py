"""Webhooks to receivers with TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jobs.notifications import connections
from tests.jobs.notifications.receivers import (
    Receiver,
    answer,
    redirect,
)
from tests.jobs.notifications.sending import deliver

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_receivers")]


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
