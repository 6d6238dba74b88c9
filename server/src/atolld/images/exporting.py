"""An image as one archive that is both an OCI layout and what `docker load` takes."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atolld.images.oci import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform, RunConfig
from atolld.images.reference import Reference
from atolld.images.repack import repack

_BLOBS = "blobs/sha256"


@dataclass(frozen=True, slots=True)
class Exported:
    """What is exported. `layers`: root directories, the lowest first. `reference`: its name, for what has one."""

    layers: Sequence[Path]
    run: RunConfig
    platform: Platform
    reference: Reference | None


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size_bytes: int


def export(image: Exported) -> Iterator[bytes]:
    """The archive. Blocks, and reads every layer twice: its digest and size come before its bytes.

    The layers are packed anew from their files and not compressed, so they and the image have digests of their own, the
    same each time. Raises FailedPrecondition on what no image takes, OSError.
    """
    measured = [_measure(repack(root)) for root in image.layers]
    config = _json(_config(image, measured))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, _of(config)),
            "layers": [_descriptor(OCI_LAYER, blob) for blob in measured],
        }
    )
    yield from _file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    yield from _file("index.json", _json(_index(image, manifest)))
    yield from _file("manifest.json", _json(_docker(image, config, measured)))
    for data in (config, manifest):
        yield from _file(f"{_BLOBS}/{_of(data).digest}", data)
    written: set[str] = set()
    for root, blob in zip(image.layers, measured, strict=True):
        if blob.digest not in written:
            written.add(blob.digest)
            yield _head(f"{_BLOBS}/{blob.digest}", blob.size_bytes)
            yield from repack(root)
            yield bytes(-blob.size_bytes % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _config(image: Exported, layers: Sequence[_Blob]) -> dict[str, Any]:
    run = image.run
    told = {
        "Env": [f"{name}={value}" for name, value in run.env.items()],
        "User": run.user,
        "WorkingDir": run.workdir,
        "Entrypoint": list(run.entrypoint),
        "Cmd": list(run.cmd),
    }
    platform = image.platform
    return {
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": {name: value for name, value in told.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{blob.digest}" for blob in layers]},
        "history": [{"created_by": "atoll image export"} for _ in layers],
    }


def _index(image: Exported, manifest: bytes) -> dict[str, Any]:
    platform = image.platform
    entry = {
        **_descriptor(OCI_MANIFEST, _of(manifest)),
        "platform": {"architecture": platform.architecture, "os": platform.os},
    }
    if image.reference is not None:
        entry["annotations"] = {
            "io.containerd.image.name": str(image.reference),
            "org.opencontainers.image.ref.name": image.reference.tag or "latest",
        }
    return {"schemaVersion": 2, "manifests": [entry]}


def _docker(image: Exported, config: bytes, layers: Sequence[_Blob]) -> list[dict[str, Any]]:
    named = image.reference
    return [
        {
            "Config": f"{_BLOBS}/{_of(config).digest}",
            "RepoTags": [named.short] if named is not None and named.tag is not None and named.digest is None else [],
            "Layers": [f"{_BLOBS}/{blob.digest}" for blob in layers],
        }
    ]


def _measure(pieces: Iterator[bytes]) -> _Blob:
    hasher, size = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        size += len(piece)
    return _Blob(hasher.hexdigest(), size)


def _of(data: bytes) -> _Blob:
    return _Blob(hashlib.sha256(data).hexdigest(), len(data))


def _descriptor(media_type: str, blob: _Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{blob.digest}", "size": blob.size_bytes}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _head(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    return info.tobuf(tarfile.PAX_FORMAT)


def _file(name: str, data: bytes) -> Iterator[bytes]:
    yield _head(name, len(data))
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)
