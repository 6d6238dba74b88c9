"""The saves of a `FakeMachine`: entries in a dictionary that outlive a daemon, and a script of failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.errors import AlreadyExists, FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.interface import Admit
from atolld.node.machine import Prepared

SAVES = Path("/nonexistent/saves")


@dataclass(frozen=True, slots=True)
class FakeSave:
    """A whole save. `execution`: whose disk was cloned; None when `save_disk` was never called."""

    saved: Saved
    layers: tuple[Path, ...]
    execution: SandboxId | None
    needs_address: bool = True
    envs: Mapping[str, str] = field(default_factory=dict)


class FakeSaves:
    """The save verbs of `Machine`.

    `saves` are the whole ones, `begun` those being written (save -> execution whose disk is in it). `calls` lists the
    verbs with the id they were given, in order. `failures[verb]` is raised by each call of the verb until it is taken
    out again; `damaged` maps a save to the file that `check_save` names, or `check_memory` when it lies in `memory`;
    `unread` holds back what `check_memory` says until it is set; `differences` is what `diff_saves` finds.
    """

    def __init__(self) -> None:
        self.saves: dict[SnapshotId, FakeSave] = {}
        self.begun: dict[SnapshotId, SandboxId | None] = {}
        self.damaged: dict[SnapshotId, str] = {}
        self.unread: asyncio.Event | None = None
        self.differences: list[FileDiff] = []
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, Exception] = {}

    async def settle(self, prepared: Prepared) -> None:
        self._call("settle", prepared.id)

    async def begin_save(self, save_id: SnapshotId) -> Path:
        self._call("begin_save", save_id)
        if save_id in self.saves or save_id in self.begun:
            raise AlreadyExists(f"save {save_id} exists")
        self.begun[save_id] = None
        return SAVES / f"{save_id}.part" / "memory"

    async def save_disk(self, prepared: Prepared, save_id: SnapshotId) -> None:
        self._call("save_disk", save_id)
        self._check_begun(save_id)
        self.begun[save_id] = prepared.id

    async def finish_save(
        self,
        save_id: SnapshotId,
        kind: SaveKind,
        engine: str,
        stopped_s: float,
        layers: tuple[Path, ...],
        *,
        needs_address: bool = True,
        envs: Mapping[str, str] | None = None,
    ) -> Saved:
        self._call("finish_save", save_id)
        self._check_begun(save_id)
        memory_bytes = 1 << 20 if kind is SaveKind.MEMORY else 0
        saved = Saved(kind, memory_bytes, 1 << 20, engine, stopped_s, tuple(path.parent.name for path in layers))
        self.saves[save_id] = FakeSave(saved, layers, self.begun.pop(save_id), needs_address, envs or {})
        return saved

    async def abandon_save(self, save_id: SnapshotId) -> None:
        self._call("abandon_save", save_id)
        self.begun.pop(save_id, None)

    async def check_save(self, save_id: SnapshotId, kind: SaveKind, engine: str | None) -> Path:
        self._call("check_save", save_id)
        saved = self._whole(save_id).saved
        if save_id in self.damaged and not self.damaged[save_id].startswith("memory"):
            self._refuse_damaged(save_id)
        if kind is SaveKind.MEMORY and saved.kind is not SaveKind.MEMORY:
            raise FailedPrecondition(f"save {save_id} holds files only, no memory")
        if kind is SaveKind.MEMORY and engine is not None and engine != saved.engine:
            raise FailedPrecondition(f"save {save_id} was written by {saved.engine}, and this machine has {engine}")
        return SAVES / save_id / "memory"

    async def check_memory(self, save_id: SnapshotId) -> None:
        """See `Machine.check_memory`."""
        self._call("check_memory", save_id)
        if self.unread is not None:
            await self.unread.wait()
        self._whole(save_id)
        if self.damaged.get(save_id, "").startswith("memory"):
            self._refuse_damaged(save_id)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        found = self.saves.get(save_id)
        return None if found is None else found.saved

    async def discard_save(self, save_id: SnapshotId) -> None:
        self._call("discard_save", save_id)
        self.saves.pop(save_id, None)

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        doomed = sorted(self.saves.keys() - set(keep))
        for save_id in doomed:
            del self.saves[save_id]
        return doomed

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        self._call("diff_saves", newer)
        for save_id in (older, newer):
            if save_id is not None:
                self._whole(save_id)
        return self.differences[:limit]

    async def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        """Two pieces: the facts and the save's engine."""
        self._call("export_save", save_id)
        saved = self._whole(save_id).saved
        yield json.dumps(dict(facts)).encode() + b"\n"
        yield saved.engine.encode()

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        self._call("import_save", save_id)
        facts, _, engine = b"".join([piece async for piece in stream]).partition(b"\n")
        saved = Saved(SaveKind.MEMORY, 1 << 20, 1 << 20, engine.decode(), 0.0, ("digest",))
        await admit(json.loads(facts), saved)
        self.saves[save_id] = FakeSave(saved, (), None)
        return saved

    def save_layers(self, save_id: SnapshotId) -> tuple[Path, ...]:
        return self._whole(save_id).layers

    def needs_address(self, save_id: SnapshotId) -> bool:
        return self._whole(save_id).needs_address

    def envs(self, save_id: SnapshotId) -> Mapping[str, str]:
        return self._whole(save_id).envs

    def _refuse_damaged(self, save_id: SnapshotId) -> None:
        raise FailedPrecondition(f"save {save_id} is damaged: {self.damaged[save_id]} is not as it was written")

    def _whole(self, save_id: SnapshotId) -> FakeSave:
        try:
            return self.saves[save_id]
        except KeyError:
            raise NotFound(f"there is no save {save_id} on this machine") from None

    def _check_begun(self, save_id: SnapshotId) -> None:
        if save_id not in self.begun:
            raise NotFound(f"save {save_id} was not begun")

    def _call(self, verb: str, id: str) -> None:
        self.calls.append((verb, id))
        if verb in self.failures:
            raise self.failures[verb]
