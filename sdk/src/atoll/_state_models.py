"""What the daemon tells about snapshots and pools, as values. Unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from atoll._errors import Internal
from atoll._models import parse_time

OnTimeout = Literal["kill", "pause"]
OnIdle = Literal["freeze", "pause"]
FileChange = Literal["added", "removed", "changed"]


class Unchanged(Enum):
    """Stands for a value that stays as it is; None means something else there."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot as the daemon knew it when this was read.

    sandbox_id: what it was taken of; that may have ended since. parent_id: the checkpoint before it in its tree. kind:
    "memory" (processes, memory and files) or "filesystem" (files only). role: "snapshot" for what was asked for,
    "pause" for what a paused sandbox resumes from. size_bytes on disk; blocks that clones share count in full.
    stopped_ms: how long the sandbox stood still for it. `raw`: the daemon's whole answer.
    """

    id: str
    name: str | None
    sandbox_id: str
    parent_id: str | None
    role: str
    state: str
    kind: str
    template: str
    runtime: str
    created_at: datetime | None
    size_bytes: int
    stopped_ms: float | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Any) -> SnapshotInfo:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise Internal("the daemon's answer is not a snapshot")
        stopped_ms = value.get("stopped_ms")
        return cls(
            id=value["id"],
            name=value.get("name"),
            sandbox_id=str(value.get("sandbox_id", "")),
            parent_id=value.get("parent_id"),
            role=str(value.get("role", "")),
            state=str(value.get("state", "")),
            kind=str(value.get("kind", "")),
            template=str(value.get("template", "")),
            runtime=str(value.get("runtime", "")),
            created_at=parse_time(value.get("created_at")),
            size_bytes=int(value.get("size_bytes") or 0),
            stopped_ms=None if stopped_ms is None else float(stopped_ms),
            raw=value,
        )


@dataclass(frozen=True)
class FileDiff:
    """One path that differs between two snapshots: "added", "removed" or "changed" in the later one.

    size_bytes: in the later one, 0 when it was removed.
    """

    path: str
    change: FileChange
    size_bytes: int

    @classmethod
    def from_json(cls, value: Any) -> FileDiff:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("path"), str):
            raise Internal("the daemon's answer is not a difference of files")
        return cls(value["path"], value.get("change", "changed"), int(value.get("size_bytes") or 0))


@dataclass(frozen=True)
class PoolInfo:
    """A warm pool as it stood when this was read.

    ready: how many sandboxes are to wait. warm: that do, starting: on their way. claims and misses: creates since the
    daemon's start that found one, and that did not. message: why it is not full, None while nothing keeps it from it.
    """

    id: str
    template: str
    runtime: str
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    ready: int
    warm: int
    starting: int
    claims: int
    misses: int
    message: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Any) -> PoolInfo:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise Internal("the daemon's answer is not a pool")
        numbers = ("memory_mib", "disk_mib", "pids_max", "ready", "warm", "starting", "claims", "misses")
        return cls(
            id=value["id"],
            template=str(value.get("template", "")),
            runtime=str(value.get("runtime", "")),
            cpu=float(value.get("cpu") or 0),
            message=value.get("message"),
            raw=value,
            **{name: int(value.get(name) or 0) for name in numbers},
        )
