"""A certificate authority of this machine's own, for one domain, and the certificate that the daemon serves with.

Both lie in the state directory and belong to its owner. The authority is bound to the domain: whoever trusts it trusts
it for nothing else.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from atolld.foundation.errors import FailedPrecondition

AUTHORITY_LASTS = timedelta(days=3650)
LASTS = timedelta(days=90)
RENEWED_BEFORE = timedelta(days=30)
# Clocks of clients may be behind.
_EARLIER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Files:
    """Where an authority's certificate lies, and the chain and key to serve with."""

    authority: Path
    authority_key: Path
    chain: Path
    key: Path


def files_of(state: Path, domain: str) -> Files:
    """Where the files of `domain` lie, whether they are there or not."""
    folder = state / "tls" / domain
    return Files(folder / "ca.pem", folder / "ca.key", folder / "cert.pem", folder / "cert.key")


def ensure(state: Path, domain: str, now: datetime | None = None) -> Files:
    """Make the authority of `domain`, and a certificate for it, its subdomains and the names E2B's clients use.

    The authority is made once and again only when it has ended; the certificate also when it ends within 30 days.
    Raises FailedPrecondition when what lies there cannot be read as such.
    """
    now = now or datetime.now(UTC)
    files = files_of(state, domain)
    files.chain.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _read(files.authority)
    made = (
        authority is None or authority.not_valid_after_utc - RENEWED_BEFORE <= now or not files.authority_key.exists()
    )
    if made:
        authority = _make_authority(files, domain, now)
    assert authority is not None
    served = _read(files.chain)
    if made or served is None or served.not_valid_after_utc - RENEWED_BEFORE <= now or not files.key.exists():
        _issue(files, authority, domain, now)
    return files


def load_into(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    """Serve with `chain` and `key` from the next handshake on.

    Raises FailedPrecondition when they cannot be read or do not belong together.
    """
    try:
        context.load_cert_chain(chain, key)
    except (OSError, ssl.SSLError) as error:
        raise FailedPrecondition(
            f"cannot serve TLS with {chain} and {key}: {error}; set tls_cert and tls_key to a chain and its key, in PEM"
        ) from None


def _ends_soon(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - RENEWED_BEFORE <= now


def _make_authority(files: Files, domain: str, now: datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Atoll, for {domain} only"[:64])])
    constraint = x509.NameConstraints(permitted_subtrees=[x509.DNSName(domain)], excluded_subtrees=None)
    certificate = (
        _certificate(name, name, key.public_key(), now, AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(constraint, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(files.authority_key, _pem(key))
    _write(files.authority, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate


def _issue(files: Files, authority: x509.Certificate, domain: str, now: datetime) -> None:
    signer = serialization.load_pem_private_key(files.authority_key.read_bytes(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise FailedPrecondition(f"{files.authority_key} is no key of an authority of ours; move it away")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [domain, f"api.{domain}", f"sandbox.{domain}", f"*.{domain}"]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain[:64])])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = (
        _certificate(subject, authority.subject, key.public_key(), now, LASTS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(files.key, _pem(key))
    _write(files.chain, _chain([certificate, authority]))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _chain(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FailedPrecondition(f"{path} is no certificate ({error}); move it away and a new one is made") from None


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    # In one step, so that a daemon that is killed here leaves no half of a file.
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    beside.rename(path)
