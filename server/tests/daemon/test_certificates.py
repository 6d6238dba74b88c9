from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atolld.daemon.certificates import LASTS, RENEWED_BEFORE, ensure, load_into
from atolld.foundation.errors import FailedPrecondition

DOMAIN = "sandbox.test"
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def handshake(state: Path, name: str, trusted: Path) -> None:
    """A TLS handshake in memory. Raises ssl.SSLError when the client does not trust what it is shown."""
    files = ensure(state, DOMAIN)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_into(server, files.chain, files.key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("name", [DOMAIN, f"api.{DOMAIN}", f"sandbox.{DOMAIN}", f"3000-i0000000000000000000.{DOMAIN}"])
def test_who_trusts_the_authority_trusts_the_daemon(tmp_path: Path, name: str) -> None:
    handshake(tmp_path, name, ensure(tmp_path, DOMAIN).authority)


def test_nobody_else_is_trusted(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "other.test", ensure(tmp_path, DOMAIN).authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, DOMAIN, ensure(tmp_path / "another", DOMAIN).authority)


def test_an_authority_is_good_for_its_own_domain_only(tmp_path: Path) -> None:
    # As if somebody had stolen its key.
    ours, theirs = ensure(tmp_path, DOMAIN), ensure(tmp_path, "bank.test")
    for source, target in ((ours.authority, theirs.authority), (ours.authority_key, theirs.authority_key)):
        target.write_bytes(source.read_bytes())
    theirs.chain.unlink()
    forged = ensure(tmp_path, "bank.test")
    ours.chain.write_bytes(forged.chain.read_bytes())
    ours.key.write_bytes(forged.key.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(tmp_path, "bank.test", ours.authority)


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    files = ensure(tmp_path, DOMAIN)
    assert {path.stat().st_mode & 0o777 for path in (files.key, files.authority_key, files.chain)} == {0o600}
    assert files.key.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "later, authority_stays, certificate_stays",
    [
        (timedelta(), True, True),
        (LASTS - RENEWED_BEFORE - timedelta(seconds=1), True, True),
        (LASTS - RENEWED_BEFORE + timedelta(seconds=1), True, False),
        (timedelta(days=3650), False, False),
    ],
)
def test_renewal(tmp_path: Path, later: timedelta, authority_stays: bool, certificate_stays: bool) -> None:
    files = ensure(tmp_path, DOMAIN, NOW)
    before = files.authority.read_bytes(), files.chain.read_bytes()
    assert ensure(tmp_path, DOMAIN, NOW + later) == files
    assert (files.authority.read_bytes() == before[0]) is authority_stays
    assert (files.chain.read_bytes() == before[1]) is certificate_stays


@pytest.mark.parametrize("lost", ["key", "chain", "authority_key", "authority"])
def test_what_is_lost_is_made_again(tmp_path: Path, lost: str) -> None:
    getattr(ensure(tmp_path, DOMAIN), lost).unlink()
    handshake(tmp_path, DOMAIN, ensure(tmp_path, DOMAIN).authority)


def test_what_is_no_certificate(tmp_path: Path) -> None:
    files = ensure(tmp_path, DOMAIN)
    files.chain.write_text("nonsense")
    with pytest.raises(FailedPrecondition, match="cert.pem is no certificate"):
        ensure(tmp_path, DOMAIN)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(FailedPrecondition, match="set tls_cert and tls_key"):
        load_into(context, files.chain, files.key)
