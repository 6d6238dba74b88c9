"""What is kept of a sandbox: a save on disk, and the snapshot that a user sees of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.foundation.ids import BuildId, ProjectId, SandboxId, SnapshotId, TemplateId, is_snapshot_id

MAX_NAME = 128
DEFAULT_TAG = "default"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._/-]*[a-z0-9])?(?::[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)?")


class SaveKind(StrEnum):
    """What a save holds: memory, processes and files; or files only."""

    MEMORY = "memory"
    FILESYSTEM = "filesystem"


class SnapshotRole(StrEnum):
    """What a snapshot is for.

    PAUSE: what a paused sandbox resumes from, and a resumed one was resumed from; it belongs to its sandbox. SNAPSHOT:
    asked for by a user, lives until it is deleted. FORK: made for a fork, deleted when its siblings stand. TEMPLATE:
    what sandboxes of one build of a template go on from; it belongs to that build.
    """

    PAUSE = "pause"
    SNAPSHOT = "snapshot"
    FORK = "fork"
    TEMPLATE = "template"


class SnapshotState(StrEnum):
    """CREATING: files may be half written. READY: whole. DELETING: decided; files may still be there.

    DELETED: the files are gone; the row stays only as long as another snapshot names it as its parent.
    """

    CREATING = "creating"
    READY = "ready"
    DELETING = "deleting"
    DELETED = "deleted"


SNAPSHOT_TRANSITIONS = frozenset(
    {
        (SnapshotState.CREATING, SnapshotState.READY),
        (SnapshotState.CREATING, SnapshotState.DELETING),
        (SnapshotState.READY, SnapshotState.DELETING),
        (SnapshotState.DELETING, SnapshotState.DELETED),
    }
)


def snapshot_transition(source: SnapshotState, target: SnapshotState) -> SnapshotState:
    """`target`. Raises FailedPrecondition when a snapshot in `source` cannot get there."""
    if (source, target) not in SNAPSHOT_TRANSITIONS:
        raise FailedPrecondition(f"a snapshot that is {source.value} cannot become {target.value}")
    return target


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole save as the node has it. Sizes are bytes on the host's disk; a clone's shared blocks count in full.

    `engine`: runtime and version that wrote the memory; only that one reads it. `stopped_s`: how long the guest stood
    still for it. `layers`: digests of the read-only layers below its disk, lowest first. `phases_s`: where the time of
    writing it went, in order; known only to who has just written it.
    """

    kind: SaveKind
    memory_bytes: int
    disk_bytes: int
    engine: str
    stopped_s: float
    layers: tuple[str, ...] = ()
    phases_s: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot's row.

    `sandbox_id`: what it was taken of (it may have ended since). `parent_id`: the snapshot its source had been started,
    resumed or rolled back from, or that was taken of it last. `agent_token` answers to the agent inside until a new one
    is set; a secret. `created_at`: Unix seconds. `saved` None: not whole yet, or deleted. `build_id`: its sandbox's, or
    with TEMPLATE that of the build that it belongs to.
    """

    id: SnapshotId
    project_id: ProjectId
    sandbox_id: SandboxId
    parent_id: SnapshotId | None
    role: SnapshotRole
    state: SnapshotState
    kind: SaveKind
    name: str | None
    template_id: TemplateId
    template_name: str
    runtime: str
    resources: Resources
    agent_token: str
    secure: bool
    created_at: float
    saved: Saved | None = None
    build_id: BuildId | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, 0 when there are none."""
        return 0 if self.saved is None else self.saved.memory_bytes + self.saved.disk_bytes


class FileChange(StrEnum):
    """How a file differs between two saves."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One path that differs; `size_bytes` in the later save (0 when removed)."""

    path: str
    change: FileChange
    size_bytes: int


def check_snapshot_name(name: str) -> str:
    """`name` as a snapshot's name: 1 to 128 of `a-z 0-9 . _ - /`, optionally `:` and a tag, no `..` and no `//`.

    A name that has the form of an id is refused: it could never be found. Raises InvalidArgument.
    """
    if is_snapshot_id(plain_name(name)):
        raise InvalidArgument(f"{name!r} has the form of a snapshot's id; use another name")
    return check_snapshot_ref(name)


def check_snapshot_ref(text: str) -> str:
    """`text` as a snapshot's id or name; every id has the form of a name. Raises InvalidArgument."""
    if len(text) > MAX_NAME or not _NAME.fullmatch(text) or ".." in text or "//" in text:
        raise InvalidArgument(
            f"{text[:80]!r} is not a valid snapshot name: use 1 to {MAX_NAME} of a-z, 0-9, '.', '_', '-' and '/', "
            "beginning and ending with a letter or digit, and optionally ':' with a tag"
        )
    return text


def plain_name(name: str) -> str:
    """`name` as it is stored and compared: without the tag when that is `default`, which every name without one has."""
    return name.removesuffix(f":{DEFAULT_TAG}")
