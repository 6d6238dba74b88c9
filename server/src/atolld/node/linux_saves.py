"""The saves of a `LinuxMachine`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.errors import Unimplemented
from atolld.foundation.ids import SnapshotId
from atolld.node.interface import Admit
from atolld.node.machine import Prepared

_NOT_YET = "saving sandboxes is not there yet"


class LinuxSaves:
    """The save verbs of `Machine`; refused until the host can do them."""

    async def settle(self, prepared: Prepared) -> None:
        raise Unimplemented(_NOT_YET)

    async def begin_save(self, save_id: SnapshotId) -> Path:
        raise Unimplemented(_NOT_YET)

    async def save_disk(self, prepared: Prepared, save_id: SnapshotId) -> None:
        raise Unimplemented(_NOT_YET)

    async def finish_save(
        self, save_id: SnapshotId, kind: SaveKind, engine: str, stopped_s: float, layers: tuple[Path, ...]
    ) -> Saved:
        raise Unimplemented(_NOT_YET)

    async def abandon_save(self, save_id: SnapshotId) -> None:
        return None

    async def check_save(self, save_id: SnapshotId, kind: SaveKind, engine: str | None) -> Path:
        raise Unimplemented(_NOT_YET)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        return None

    async def discard_save(self, save_id: SnapshotId) -> None:
        return None

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        return ()

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        raise Unimplemented(_NOT_YET)

    async def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        raise Unimplemented(_NOT_YET)
        yield b""

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        raise Unimplemented(_NOT_YET)

    def save_layers(self, save_id: SnapshotId) -> tuple[Path, ...]:
        raise Unimplemented(_NOT_YET)
