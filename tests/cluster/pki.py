"""Certificates of a cluster for the tests: one authority, a certificate for each server and each user of the API.

Made anew for each cluster (some 20 ms) and valid for a day, so that nothing secret is kept.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=1)
CLOCK_SKEW = timedelta(minutes=5)


class Pki:
    """An authority that writes what it signs into `folder`, as `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "affinage-tests")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = self._write("ca", self._key, certificate)

    def key(self, name: str) -> Path:
        """The file of the private key signed under `name`."""
        return self.folder / f"{name}.key"

    def issue(self, name: str, *, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Path:
        """Sign a certificate, good for a server on `hosts` and for the API's `user` in `groups`; returns its file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        builder = (
            self._builder(x509.Name(subject), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        return self._write(name, key, builder.sign(self._key, hashes.SHA256()))

    def service_accounts(self) -> tuple[Path, Path]:
        """A new key for signing service account tokens; its private and its public file."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self.folder / "service-accounts.pub"
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        return self._write_key("service-accounts", key), public

    def kubeconfig(self, name: str, *, url: str) -> Path:
        """Write the kubeconfig of the user whose certificate was issued under `name`; keys inside, so it can be moved."""

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        file = self.folder / f"{name}.kubeconfig"
        user = {"client-certificate-data": inline(self.folder / f"{name}.crt"), "client-key-data": inline(self.key(name))}
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority-data": inline(self.certificate)}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            "current-context": "tests",
        }
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(written), encoding="utf-8")
        return file

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + VALID)
        )

    def _write(self, name: str, key: PrivateKeyTypes, certificate: x509.Certificate) -> Path:
        self._write_key(name, key)
        file = self.folder / f"{name}.crt"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def _write_key(self, name: str, key: PrivateKeyTypes) -> Path:
        file = self.key(name)
        file.touch(mode=0o600)
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        return file


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
