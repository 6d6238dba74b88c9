from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import AtollError, FailedPrecondition, InvalidArgument
from atolld.host.archivehead import (
    MAGIC,
    PREFIX_BYTES,
    ArchiveManifest,
    Body,
    DiskBody,
    LayerBody,
    open_head,
    rest_of_head,
    seal,
)
from atolld.host.archivekeys import ArchiveKeys, open_keys

BODY = Body(5, "a" * 64)
MANIFEST = ArchiveManifest(
    kind=SaveKind.MEMORY,
    engine="gvisor 1",
    created_at=1.5,
    stopped_s=0.25,
    cpu_flags=frozenset({"avx", "aes"}),
    facts={"name": "n", "agent_token": "t"},
    layers=(LayerBody("b" * 64, BODY, 4096, {"built_at": 1.0}),),
    memory={"pages.img": BODY, "checkpoint.img": BODY},
    disk=DiskBody(1 << 30, 4096, BODY),
)


@pytest.fixture
def keys(tmp_path: Path) -> ArchiveKeys:
    return open_keys(tmp_path)


def forge(keys: ArchiveKeys, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The rest of a head whose manifest was changed and signed all the same."""
    values = json.loads(MANIFEST.to_bytes())
    change(values)
    text = json.dumps(values).encode()
    return text + keys.public + keys.sign(text)


def test_a_head_is_read_as_it_was_sealed(keys: ArchiveKeys) -> None:
    head = seal(MANIFEST, keys)
    rest = head[PREFIX_BYTES:]
    assert rest_of_head(head[:PREFIX_BYTES]) == len(rest)
    assert open_head(rest, keys) == MANIFEST
    files = replace(MANIFEST, kind=SaveKind.FILESYSTEM, memory={})
    assert open_head(seal(files, keys)[PREFIX_BYTES:], keys) == files


def test_every_flipped_bit_is_noticed(keys: ArchiveKeys) -> None:
    head = seal(MANIFEST, keys)
    for position in range(len(head)):
        damaged = bytearray(head)
        damaged[position] ^= 1
        with pytest.raises(AtollError):
            if rest_of_head(bytes(damaged[:PREFIX_BYTES])) != len(head) - PREFIX_BYTES:
                raise InvalidArgument("another length")
            open_head(bytes(damaged[PREFIX_BYTES:]), keys)


@pytest.mark.parametrize(
    "prefix",
    [b"", b"PK\3\4" + bytes(8), MAGIC + bytes(4), MAGIC + b"\xff" * 4, MAGIC + (4 * 2**20 + 1).to_bytes(4, "big")],
)
def test_what_is_no_archive(prefix: bytes) -> None:
    with pytest.raises(InvalidArgument):
        rest_of_head(prefix)


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], object]:
    def change(values: Any) -> None:
        for step in path[:-1]:
            values = values[step]
        values[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("kind", to="other"),
        _set("engine", to=7),
        _set("engine", to="x" * 5000),
        _set("created_at", to="now"),
        _set("created_at", to=float("nan")),
        _set("stopped_s", to=True),
        _set("cpu_flags", to="avx"),
        _set("cpu_flags", to=["x"] * 5000),
        _set("snapshot", to=[]),
        _set("layers", to=[]),
        _set("layers", to={}),
        _set("layers", 0, "digest", to="../../etc"),
        _set("layers", 0, "body", "sha256", to="A" * 64),
        _set("layers", 0, "disk_bytes", to=-1),
        _set("layers", 0, "about", to=None),
        _set("memory", to=[]),
        _set("memory", 0, "name", to="../pages.img"),
        _set("memory", 0, "name", to="manifest.json"),
        _set("memory", 0, "name", to="checkpoint.img"),
        _set("memory", 0, "size_bytes", to=1 << 60),
        _set("memory", 0, "size_bytes", to=1.5),
        _set("memory", 0, "size_bytes", to=True),
        _set("disk", to=None),
        _set("disk", "limit_bytes", to="1"),
        lambda values: values.pop("disk"),
        lambda values: values["memory"].append(values["memory"][0]),
        lambda values: values["memory"].extend([values["memory"][0]] * 10),
        lambda values: values.update(kind="filesystem"),
    ],
)
def test_a_signed_manifest_is_judged_too(keys: ArchiveKeys, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(InvalidArgument, match="manifest"):
        open_head(forge(keys, change), keys)


def test_a_newer_format_asks_for_an_update(keys: ArchiveKeys) -> None:
    with pytest.raises(FailedPrecondition, match="update atolld"):
        open_head(forge(keys, _set("format", to=2)), keys)


def test_too_large_a_manifest_is_not_written(keys: ArchiveKeys) -> None:
    with pytest.raises(FailedPrecondition, match="manifest"):
        seal(replace(MANIFEST, facts={"x": "y" * (5 << 20)}), keys)
