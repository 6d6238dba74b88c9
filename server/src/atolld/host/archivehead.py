"""The head of an archive: what is in it, signed. It is read and judged before anything else of the archive.

    8 bytes   ATOLLAR1
    4 bytes   length of the manifest, big-endian, 1 to 4 MiB
    n bytes   the manifest, JSON in UTF-8
    32 bytes  Ed25519 public key of the machine that wrote it
    64 bytes  its signature over "atoll archive manifest 1\\0" and the manifest

The bodies follow in the manifest's order: layers, memory files, disk (`atolld.host.archivestream`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.host.archivekeys import KEY_BYTES, SIGNATURE_BYTES, ArchiveKeys

MAGIC = b"ATOLLAR1"
FORMAT = 1
MAX_MANIFEST_BYTES = 4 << 20
PREFIX_BYTES = len(MAGIC) + 4
# The files that a runtime may have written; no name from an archive is used that is not one of these.
MEMORY_NAMES = frozenset({"checkpoint.img", "pages.img", "pages_meta.img", "launch.json", "runs.json"})
MAX_LAYERS = 500
_MAX_FLAGS = 4096
_MAX_TEXT = 4096
# 2**53: every size is a whole number in any reader of JSON.
_MAX_SIZE = 1 << 53
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Body:
    """One body: its bytes once inflated, and their SHA-256 in hex."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LayerBody:
    """A read-only layer as a tar. `digest`: its name where it was exported, lowest layer first; it tells of the recipe,
    while `body.sha256` tells of the contents. `disk_bytes`: what it takes unpacked. `about`: its stored manifest."""

    digest: str
    body: Body
    disk_bytes: int
    about: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiskBody:
    """The writable layer. `limit_bytes`: the image's size; `data_bytes`: what it takes on the host."""

    limit_bytes: int
    data_bytes: int
    body: Body


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """What is in an archive; times in Unix seconds. `facts`: control's own record of the snapshot; holds a secret."""

    kind: SaveKind
    engine: str
    created_at: float
    stopped_s: float
    cpu_flags: frozenset[str]
    facts: Mapping[str, object]
    layers: tuple[LayerBody, ...]
    memory: Mapping[str, Body]
    disk: DiskBody

    @property
    def memory_bytes(self) -> int:
        """Of all memory files."""
        return sum(body.size_bytes for body in self.memory.values())

    def to_bytes(self) -> bytes:
        """The form that is signed."""
        values = {
            "format": FORMAT,
            "kind": self.kind.value,
            "engine": self.engine,
            "created_at": self.created_at,
            "stopped_s": self.stopped_s,
            "cpu_flags": sorted(self.cpu_flags),
            "snapshot": dict(self.facts),
            "layers": [asdict(layer) for layer in self.layers],
            "memory": [{"name": name, **asdict(body)} for name, body in self.memory.items()],
            "disk": asdict(self.disk),
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def seal(manifest: ArchiveManifest, keys: ArchiveKeys) -> bytes:
    """The head of an archive with this manifest. Raises FailedPrecondition when that would be too large."""
    text = manifest.to_bytes()
    if len(text) > MAX_MANIFEST_BYTES:
        raise FailedPrecondition(f"the archive's manifest would take {len(text)} bytes, over {MAX_MANIFEST_BYTES}")
    return MAGIC + len(text).to_bytes(4, "big") + text + keys.public + keys.sign(text)


def rest_of_head(prefix: bytes) -> int:
    """How many bytes follow the first 12. Raises InvalidArgument when those begin no archive."""
    if prefix[: len(MAGIC)] != MAGIC:
        raise InvalidArgument("this is no archive of a snapshot: it does not begin as one")
    length = int.from_bytes(prefix[len(MAGIC) : PREFIX_BYTES], "big")
    if not 1 <= length <= MAX_MANIFEST_BYTES:
        raise InvalidArgument(f"the archive is damaged: its manifest would have {length} bytes")
    return length + KEY_BYTES + SIGNATURE_BYTES


def open_head(rest: bytes, keys: ArchiveKeys) -> ArchiveManifest:
    """The manifest in the head's rest, once its signature is verified; unsigned text is not even parsed.

    Raises PermissionDenied, InvalidArgument, FailedPrecondition for a newer format.
    """
    text = rest[: -KEY_BYTES - SIGNATURE_BYTES]
    public, signature = rest[len(text) : len(text) + KEY_BYTES], rest[-SIGNATURE_BYTES:]
    keys.verify(text, public, signature)
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise FailedPrecondition(
                f"the archive has the format {values['format']!r}, and this version reads {FORMAT}; update atolld"
            )
        return _read(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f"the archive's manifest is not as it should be: {error!r}") from None


def _read(values: Mapping[str, Any]) -> ArchiveManifest:
    manifest = ArchiveManifest(
        kind=SaveKind(values["kind"]),
        engine=_text(values["engine"]),
        created_at=_seconds(values["created_at"]),
        stopped_s=_seconds(values["stopped_s"]),
        cpu_flags=frozenset(map(_text, _list(values["cpu_flags"], _MAX_FLAGS))),
        facts=_object(values["snapshot"]),
        layers=tuple(map(_layer, _list(values["layers"], MAX_LAYERS))),
        memory={_text(file["name"]): _body(file) for file in _list(values["memory"], len(MEMORY_NAMES))},
        disk=DiskBody(
            _size(values["disk"]["limit_bytes"]),
            _size(values["disk"]["data_bytes"]),
            _body(values["disk"]["body"]),
        ),
    )
    if unknown := manifest.memory.keys() - MEMORY_NAMES:
        raise ValueError(f"there is no memory file {min(unknown)!r}")
    if len(manifest.memory) != len(values["memory"]):
        raise ValueError("a memory file is there twice")
    if bool(manifest.memory) != (manifest.kind is SaveKind.MEMORY):
        raise ValueError("memory files do not go with the kind")
    if not manifest.layers:
        raise ValueError("there is no layer")
    return manifest


def _layer(value: Mapping[str, Any]) -> LayerBody:
    return LayerBody(_hex(value["digest"]), _body(value["body"]), _size(value["disk_bytes"]), _object(value["about"]))


def _body(value: Mapping[str, Any]) -> Body:
    return Body(_size(value["size_bytes"]), _hex(value["sha256"]))


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SIZE:
        raise ValueError(f"{value!r} is no size")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no time")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError("a text is no text or too long")
    return value


def _hex(value: object) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError("a digest is not 64 hexadecimal digits")
    return value


def _list(value: object, longest: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise ValueError(f"a list is no list or has more than {longest} items")
    return value


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("an object is missing")
    return value
