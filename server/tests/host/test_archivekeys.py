from __future__ import annotations

import stat
from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from atolld.host.archivekeys import FILE, open_keys, parse_public_key, public_key_text


def test_the_key_is_made_once_and_is_for_root_only(tmp_path: Path) -> None:
    first = open_keys(tmp_path)
    assert open_keys(tmp_path).public == first.public
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(FailedPrecondition, match="remove it"):
        open_keys(tmp_path)


def test_public_keys_as_text(tmp_path: Path) -> None:
    public = open_keys(tmp_path).public
    assert parse_public_key(f" {public_key_text(public)}\n") == public
    for bad in ("", "atoll-archive-", "atoll-archive-!!!", public_key_text(public)[:-4], "ssh-ed25519 AAAA", "a" * 57):
        with pytest.raises(InvalidArgument, match="archive-key"):
            parse_public_key(bad)


def test_who_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = open_keys(tmp_path / "a"), open_keys(tmp_path / "b")
    signature = there.sign(b"m")
    there.verify(b"m", there.public, signature)
    with pytest.raises(PermissionDenied, match="archive_trust") as refused:
        here.verify(b"m", there.public, signature)
    assert public_key_text(there.public) in refused.value.message
    trusting = open_keys(tmp_path / "a", [public_key_text(there.public)])
    trusting.verify(b"m", there.public, signature)
    for message, public, made in ((b"n", there.public, signature), (b"m", here.public, signature)):
        with pytest.raises(InvalidArgument, match="signature"):
            trusting.verify(message, public, made)


def test_a_signature_is_for_archives_only(tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    with pytest.raises(InvalidArgument):
        keys.verify(b"m", keys.public, keys.own.sign(b"m"))
