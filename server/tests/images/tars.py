"""Layers and images made for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atolld.images.oci import Platform

PLATFORM = Platform("linux", "amd64")


def entry(name: str, type: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry, owned by whoever runs the tests unless `fields` say otherwise."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.uid, info.gid = type, len(data), os.getuid(), os.getgid()
    info.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Entries as they are, however wrong: `tarfile` would clean them up in `add`."""
    made = b""
    for info, data in entries:
        made += info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
    return made + bytes(1024)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _plain(layer: bytes) -> bytes:
    return gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer


@dataclass
class MadeImage:
    """An image in parts. `blobs`: config and compressed layers by digest; `manifest` as a registry serves it."""

    layers: Sequence[bytes]
    config: Mapping[str, Any] = field(default_factory=dict)
    diff_ids: Sequence[str] | None = None
    platform: Platform = PLATFORM

    def __post_init__(self) -> None:
        # Not where it is told: a bomb would go off here.
        diff_ids = list(self.diff_ids) if self.diff_ids is not None else [digest(_plain(one)) for one in self.layers]
        self.config_data = json.dumps(
            {
                "architecture": self.platform.architecture,
                "os": self.platform.os,
                "config": dict(self.config),
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest(self.config_data),
                    "size": len(self.config_data),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": digest(one),
                        "size": len(one),
                    }
                    for one in self.layers
                ],
            }
        ).encode()
        self.blobs = {digest(self.config_data): self.config_data, **{digest(one): one for one in self.layers}}

    @property
    def digest(self) -> str:
        return digest(self.manifest)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return made.getvalue()
