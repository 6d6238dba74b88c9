"""Manifests: written and read back; every change is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import FailedPrecondition
from atolld.host.manifest import DiskImage, Manifest, MemoryFile, _checksum, parse_manifest

WHOLE = Manifest(
    id="s1",
    kind=SaveKind.MEMORY,
    engine="gvisor 1",
    created_at=1700000000.25,
    stopped_s=0.05,
    layers=("aa", "bb"),
    cpu_flags=frozenset({"avx", "aes"}),
    memory=(MemoryFile("pages.img", 10, "00"),),
    disk=DiskImage(1 << 30, 4096, "11"),
    memory_bytes=4096,
)


@pytest.mark.parametrize(
    "manifest",
    [WHOLE, replace(WHOLE, needs_address=False), replace(WHOLE, kind=SaveKind.FILESYSTEM, memory=(), layers=())],
)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_text()) == manifest
    saved = manifest.saved()
    assert (saved.kind, saved.disk_bytes, saved.memory_bytes, saved.layers) == (
        manifest.kind,
        4096,
        4096,
        manifest.layers,
    )


def test_one_of_before_addresses_were_noted_may_need_its_own() -> None:
    values = json.loads(replace(WHOLE, needs_address=False).to_text())
    del values["needs_address"], values["checksum"]
    assert parse_manifest(json.dumps({**values, "checksum": _checksum(values)})) == WHOLE


def test_every_flipped_byte_is_seen() -> None:
    text = WHOLE.to_text()
    for at in range(len(text)):
        if text[at].isspace():
            continue
        with pytest.raises(FailedPrecondition):
            parse_manifest(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "1", '{"checksum": 1}'])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(FailedPrecondition):
        parse_manifest(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "update atolld"),
        ({"memory": [{"name": "../x", "size_bytes": 1, "checksum": ""}]}, "cannot name"),
        ({"memory": [{"name": "a/b", "size_bytes": 1, "checksum": ""}]}, "cannot name"),
        ({"memory": [{"name": "a"}]}, "not as it was written"),
        ({"kind": "other"}, "not as it was written"),
    ],
)
def test_hostile_manifests_with_a_right_checksum_are_refused(change: dict[str, Any], message: str) -> None:
    values = {**json.loads(WHOLE.to_text()), **change}
    del values["checksum"]
    with pytest.raises(FailedPrecondition, match=message):
        parse_manifest(json.dumps({**values, "checksum": _checksum(values)}))
