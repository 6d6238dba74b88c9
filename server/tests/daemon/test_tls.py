from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.daemon import certificates
from atolld.daemon.settings import Settings
from atolld.daemon.tls import Tls
from atolld.foundation.errors import FailedPrecondition

DOMAIN = "sandbox.test"


def test_a_certificate_of_its_own_is_made(settings: Settings) -> None:
    tls = Tls(settings.model_copy(update={"tls": "auto", "domain": DOMAIN}), ["http/1.1"])
    assert certificates.files_of(settings.state, DOMAIN).chain.exists()
    assert tls.refresh() is False


def test_a_changed_file_is_loaded_and_a_broken_one_leaves_the_old(settings: Settings, tmp_path: Path) -> None:
    made = certificates.ensure(tmp_path, DOMAIN)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(made.chain.read_bytes())
    key.write_bytes(made.key.read_bytes())
    tls = Tls(settings.model_copy(update={"tls": "files", "tls_cert": chain, "tls_key": key}), ["http/1.1"])
    assert tls.refresh() is False
    os.utime(chain, (1, 1))
    assert tls.refresh() is True
    chain.write_text("broken")
    with pytest.raises(FailedPrecondition):
        tls.refresh()


def test_files_that_are_not_there(settings: Settings, tmp_path: Path) -> None:
    missing = {"tls": "files", "tls_cert": tmp_path / "no", "tls_key": tmp_path / "no"}
    with pytest.raises(FailedPrecondition, match="cannot serve TLS"):
        Tls(settings.model_copy(update=missing), ["http/1.1"])
