"""What a save says of itself: `manifest.json`, written last, so that a save with one is whole.

    {"format": 1, "id", "kind", "engine", "created_at", "stopped_s", "layers": [digest, ...], "cpu_flags": [...],
     "memory": [{"name", "size_bytes", "checksum"}, ...], "disk": {"size_bytes", "data_bytes", "checksum"},
     "memory_bytes", "needs_address", "checksum"}

`needs_address`: see `Manifest`; a save of before there was it has none. `checksum` at the end is that of all the rest,
as it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.errors import FailedPrecondition

FORMAT = 1
NAME = "manifest.json"
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """One file of the saved memory, directly in `memory/`."""

    name: str
    size_bytes: int
    checksum: str

    def __post_init__(self) -> None:
        # It becomes part of a path, and a manifest may come from elsewhere.
        if not _FILE.fullmatch(self.name):
            raise ValueError(f"{self.name[:80]!r} cannot name a memory file")


@dataclass(frozen=True, slots=True)
class DiskImage:
    """`size_bytes`: the disk's limit. `data_bytes`: what it takes on the host. `checksum`: of `disk_checksum`."""

    size_bytes: int
    data_bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One save. `created_at`: Unix seconds. `layers`: digests, lowest first. `memory_bytes`: taken on the host.

    `needs_address`: a socket in the memory needs the network address that the guest had, or may.
    """

    id: str
    kind: SaveKind
    engine: str
    created_at: float
    stopped_s: float
    layers: tuple[str, ...]
    cpu_flags: frozenset[str]
    memory: tuple[MemoryFile, ...]
    disk: DiskImage
    memory_bytes: int
    needs_address: bool = True

    def saved(self) -> Saved:
        """What the node tells of it."""
        return Saved(self.kind, self.memory_bytes, self.disk.data_bytes, self.engine, self.stopped_s, self.layers)

    def to_text(self) -> str:
        """The form that is stored."""
        values: dict[str, object] = {
            "format": FORMAT,
            "id": self.id,
            "kind": self.kind.value,
            "engine": self.engine,
            "created_at": self.created_at,
            "stopped_s": self.stopped_s,
            "layers": list(self.layers),
            "cpu_flags": sorted(self.cpu_flags),
            "memory": [asdict(file) for file in self.memory],
            "disk": asdict(self.disk),
            "memory_bytes": self.memory_bytes,
            "needs_address": self.needs_address,
        }
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Raises FailedPrecondition when it is not as it was written, or of a format that this version does not know."""
    try:
        values = json.loads(text)
        checksum = values.pop("checksum")
        if values["format"] != FORMAT:
            raise FailedPrecondition(
                f"it has the format {values['format']}, and this version reads format {FORMAT}; update atolld"
            )
        if checksum != _checksum(values):
            raise ValueError("the checksum does not fit")
        return _read(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FailedPrecondition(f"{NAME} is not as it was written: {error}") from error


def _read(values: Mapping[str, Any]) -> Manifest:
    return Manifest(
        id=str(values["id"]),
        kind=SaveKind(values["kind"]),
        engine=str(values["engine"]),
        created_at=float(values["created_at"]),
        stopped_s=float(values["stopped_s"]),
        layers=tuple(map(str, values["layers"])),
        cpu_flags=frozenset(map(str, values["cpu_flags"])),
        memory=tuple(MemoryFile(**file) for file in values["memory"]),
        disk=DiskImage(**values["disk"]),
        memory_bytes=int(values["memory_bytes"]),
        needs_address=values.get("needs_address", True) is not False,
    )


def _checksum(values: Mapping[str, object]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
