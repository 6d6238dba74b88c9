"""What a fake node's machine holds: sandboxes and saves, as entries in memory that outlive the `FakeNode`."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.snapshot import FileChange, FileDiff, Saved, SaveKind
from atolld.foundation.errors import FailedPrecondition, GuestUnreachable, InvalidArgument, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.interface import Death, Launch, Source

ENGINE = "fake 1"
_ARCHIVE = b"atoll fake save\n"


@dataclass(slots=True)
class FakeSandbox:
    """One sandbox as the fake machine has it; it outlives a `FakeNode`, as a real one outlives the daemon.

    `memory` (JSON values) and `files` are the test's to fill: a save copies them, and a launch from it has them again.
    `standing`: stopped for a save. `run` is new for each launch, so that two runs of one id can be told apart.
    """

    id: SandboxId
    runtime: str
    memory_mib: int
    cpu: float
    network: NetworkPolicy
    died: Death | None = None
    log: bytes = b""
    address: str = ""
    run: int = 0
    layers: tuple[Path, ...] = ()
    agent_token: str = ""
    hostname: str = ""
    envs: dict[str, str] = field(default_factory=dict)
    memory: dict[str, object] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    standing: bool = False
    frozen: bool = False


@dataclass(slots=True)
class FakeSave:
    """One save. `whole` False: it was interrupted. `damaged`: why it can no longer be read, None when it can."""

    id: SnapshotId
    saved: Saved
    agent_token: str
    envs: dict[str, str]
    memory: dict[str, object]
    files: dict[str, bytes]
    whole: bool = False
    damaged: str | None = None

    def to_archive(self, facts: Mapping[str, object]) -> bytes:
        """All of it as bytes, with the exporter's facts."""
        saved = self.saved
        content = {
            "facts": dict(facts),
            "kind": saved.kind,
            "sizes": [saved.memory_bytes, saved.disk_bytes],
            "engine": saved.engine,
            "layers": saved.layers,
            "agent_token": self.agent_token,
            "envs": self.envs,
            "memory": self.memory,
            "files": {path: data.hex() for path, data in self.files.items()},
        }
        return _ARCHIVE + json.dumps(content).encode()

    @staticmethod
    def from_archive(id: SnapshotId, archive: bytes) -> tuple[FakeSave, Mapping[str, object]]:
        """What `to_archive` gave, under a new id, and the facts. Raises InvalidArgument."""
        try:
            if not archive.startswith(_ARCHIVE):
                raise ValueError("it begins with something else")
            content = json.loads(archive[len(_ARCHIVE) :])
            kind, sizes, layers = SaveKind(content["kind"]), content["sizes"], tuple(content["layers"])
            saved = Saved(kind, sizes[0], sizes[1], content["engine"], 0.0, layers)
            files = {path: bytes.fromhex(data) for path, data in content["files"].items()}
            token, envs, memory = content["agent_token"], content["envs"], content["memory"]
            return FakeSave(id, saved, token, envs, memory, files, whole=True), content["facts"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(f"this is not an archive of a snapshot: {error}") from error


@dataclass(frozen=True, slots=True)
class FakeLayer:
    """What a sandbox of a build changed."""

    files: Mapping[str, bytes]
    manifest: Mapping[str, object]


@dataclass(slots=True)
class FakeMachine:
    """What stays when the daemon is killed. Hand the same one to the next `FakeNode` to play a restart.

    `memory_bytes` and `disk_bytes` are the sizes of the next saves.
    """

    sandboxes: dict[SandboxId, FakeSandbox] = field(default_factory=dict)
    saves: dict[SnapshotId, FakeSave] = field(default_factory=dict)
    layers: dict[str, FakeLayer] = field(default_factory=dict)
    memory_bytes: int = 1 << 20
    disk_bytes: int = 1 << 16
    launched: int = 0

    def launch(self, what: Launch) -> FakeSandbox:
        """Put down a sandbox, with what its source holds if it has one. Raises as `whole_save`, and GuestUnreachable
        when the source's agent knows another token."""
        source = None if what.source is None else self._readable(what.source)
        self.launched += 1
        made = FakeSandbox(
            id=what.id,
            runtime=what.runtime,
            memory_mib=what.resources.memory_mib,
            cpu=what.resources.cpu,
            network=what.network,
            address=self._new_address(what.formerly),
            run=self.launched,
            layers=what.layers,
            agent_token=what.agent_token,
            hostname=what.hostname,
        )
        if source is not None:
            made.files = dict(source.files)
            if what.source is not None and what.source.kind is SaveKind.MEMORY:
                made.memory = copy.deepcopy(source.memory)
            # As the real node: the same sandbox has its variables again, another one only with the memory.
            if what.source is not None and (what.source.kind is SaveKind.MEMORY or what.formerly is not None):
                made.envs.update(source.envs)
        made.envs.update(what.envs)
        self.sandboxes[what.id] = made
        return made

    def seal(self, source: FakeSandbox, digest: str, manifest: Mapping[str, object], forbidden: Sequence[str]) -> bool:
        """Keep the files of `source` as a layer; False when it has none. Raises FailedPrecondition on forbidden."""
        if digest in self.layers:
            return True
        for path, data in source.files.items():
            if any(text.encode() in data for text in forbidden if text):
                raise FailedPrecondition(f"{path} holds a setting of this machine")
        if source.files:
            self.layers[digest] = FakeLayer(dict(source.files), dict(manifest))
        return bool(source.files)

    def begin_save(self, id: SnapshotId, kind: SaveKind, source: FakeSandbox) -> FakeSave:
        """Put down a save of `source` as it is now; not whole yet."""
        with_memory = kind is SaveKind.MEMORY
        saved = Saved(
            kind=kind,
            memory_bytes=self.memory_bytes if with_memory else 0,
            disk_bytes=self.disk_bytes,
            engine=ENGINE if with_memory else "",
            stopped_s=0.0,
            layers=tuple(layer.name for layer in source.layers),
        )
        save = self.saves[id] = FakeSave(
            id=id,
            saved=saved,
            agent_token=source.agent_token if with_memory else "",
            envs=dict(source.envs),
            memory=copy.deepcopy(source.memory) if with_memory else {},
            files=dict(source.files),
        )
        return save

    def whole_save(self, id: SnapshotId) -> FakeSave:
        """Raises NotFound, FailedPrecondition when it is damaged."""
        save = self.saves.get(id)
        if save is None or not save.whole:
            raise NotFound(f"there is no save {id} on this node")
        if save.damaged is not None:
            raise FailedPrecondition(f"save {id} cannot be used: {save.damaged}")
        return save

    def diff(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> list[FileDiff]:
        """See `Node.diff_saves`; a template has no files."""
        now = self.whole_save(newer)
        before = None if older is None else self.whole_save(older)
        if before is not None and before.saved.layers != now.saved.layers:
            raise FailedPrecondition(f"saves {older} and {newer} lie on different templates")
        was, is_ = {} if before is None else before.files, now.files
        return list(_differences(was, is_))[:limit]

    def _readable(self, source: Source) -> FakeSave:
        save = self.whole_save(source.save_id)
        if source.kind is SaveKind.MEMORY and save.saved.kind is not SaveKind.MEMORY:
            raise FailedPrecondition(f"save {save.id} holds files only, no memory")
        if source.kind is SaveKind.MEMORY and source.agent_token != save.agent_token:
            raise GuestUnreachable("the agent refused its initialisation with status 401")
        return save

    def _new_address(self, formerly: Mapping[str, object] | None) -> str:
        # The one of the earlier run if nobody has it now, otherwise one never given.
        wanted = (formerly or {}).get("address")
        if isinstance(wanted, str) and wanted not in {one.address for one in self.sandboxes.values()}:
            return wanted
        return f"10.{self.launched >> 16}.{self.launched >> 8 & 255}.{self.launched & 255}"


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    """All of `stream`."""
    return b"".join([part async for part in stream])


def _differences(was: Mapping[str, bytes], is_: Mapping[str, bytes]) -> Iterable[FileDiff]:
    for path in sorted(was.keys() | is_.keys()):
        if path not in was:
            yield FileDiff(path, FileChange.ADDED, len(is_[path]))
        elif path not in is_:
            yield FileDiff(path, FileChange.REMOVED, 0)
        elif was[path] != is_[path]:
            yield FileDiff(path, FileChange.CHANGED, len(is_[path]))
