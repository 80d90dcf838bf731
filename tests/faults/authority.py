"""A certificate authority of the tests' own, which the fault stack trusts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Signs certificates for 127.0.0.1; `file` is what a process is to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fault tests")])
        self.file = directory / "authority.pem"
        self.file.write_bytes(self._sign(self._key, ends_in=timedelta(days=2), is_authority=True))

    def certificate(self, *, ends_in: timedelta) -> Path:
        """Return a file with a new certificate and its key; a negative time has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._directory / f"certificate{ends_in.total_seconds():g}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(self._sign(key, ends_in=ends_in, is_authority=False) + secret)
        return file

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, *, ends_in: timedelta, is_authority: bool
    ) -> bytes:
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
        address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        public = self._key.public_key()
        made = (
            x509.CertificateBuilder()
            .subject_name(self._name if is_authority else subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(address, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)
