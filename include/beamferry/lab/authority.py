"""The lab's own certificate authority, for servers that speak TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from beamferry.lab.keys import write_private

if TYPE_CHECKING:
    from pathlib import Path

_YEARS = timedelta(days=3650)


class Authority:
    """A certificate authority in one folder, made at its first use.

    Args:
        folder: holds its key and its certificate.
        name: its common name; authorities of different names do not trust each other.
    """

    def __init__(self, folder: Path, name: str = "Beamferry lab authority") -> None:
        """Make key and certificate unless they are there."""
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._key_file.exists():
            self._make()

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, for those who are to trust it."""
        return self.folder / "ca.pem"

    @property
    def _key_file(self) -> Path:
        return self.folder / "ca.key"

    def issue(self, names: tuple[str, ...], *, days: int = 30, expired: bool = False) -> Path:
        """Return a PEM file, mode 0600, with a new key and its certificate.

        Args:
            names: host names and addresses that it is good for; the first is its common name.
            days: how long it is good from now on.
            expired: its time is over since yesterday instead.
        """
        now = datetime.now(UTC)
        until = now - timedelta(days=1) if expired else now + timedelta(days=days)
        key, signer = ec.generate_private_key(ec.SECP256R1()), self._key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = (
            self._builder(subject, key.public_key(), min(now, until) - timedelta(days=30), until)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            # From Python 3.13 on a client's default context asks for it.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
            .sign(signer, hashes.SHA256())
        )
        pem = self.folder / f"{certificate.serial_number:x}.pem"
        write_private(pem, _private(key) + certificate.public_bytes(serialization.Encoding.PEM).decode())
        return pem

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        certificate = (
            self._builder(self.name, key.public_key(), now - timedelta(days=60), now + _YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        # The key comes last: where it is, the certificate is too.
        write_private(self._key_file, _private(key))

    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._key_file} holds another kind of key")
        return key

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime, until: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
