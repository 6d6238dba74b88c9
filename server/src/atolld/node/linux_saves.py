"""The saves of a `LinuxMachine`: the host's blocking work in threads, and the order of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.aio import to_the_end
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import Capacity, FailedPrecondition, NotFound
from atolld.foundation.ids import SnapshotId
from atolld.foundation.units import MIB, format_bytes
from atolld.host import layers, mounts, savediff, saveviews
from atolld.host.archivekeys import open_keys
from atolld.host.privatemounts import in_private_mounts
from atolld.host.saves import DISK
from atolld.images.layerarchive import LayerArchives
from atolld.node.archives import SaveArchives
from atolld.node.interface import Admit
from atolld.node.machine import Prepared
from atolld.node.mechanisms import Mechanisms

T = TypeVar("T")
_FULL_BYTES = 16 * MIB
# EROFS: ext4 takes no more writes after one of its journal has failed.
_FULL = (errno.EIO, errno.ENOSPC, errno.EROFS)
_FREEING_LOOKS, _FREEING_PAUSE_S = 5, 0.05


class LinuxSaves:
    """The save verbs of `Machine`."""

    def __init__(self, mechanisms: Mechanisms) -> None:
        self._host = mechanisms
        self._views = mechanisms.state_dir / "views"
        self._comparing = asyncio.Lock()
        self._archives = SaveArchives(
            saves=mechanisms.saves,
            layers=LayerArchives(mechanisms.saves.templates.directory.parent),
            keys=lambda: open_keys(mechanisms.state_dir, mechanisms.archive_trust),
            free_bytes=mechanisms.store.free_bytes,
            reserve_bytes=mechanisms.disk_reserve_bytes,
        )

    async def settle(self, prepared: Prepared) -> None:
        """See `Machine.settle`."""
        layer = self._host.layers.get(prepared.id)
        with self._no_room(prepared):
            await _in_thread(lambda: layers.write_out(layer))

    async def begin_save(self, save_id: SnapshotId) -> Path:
        """See `Machine.begin_save`."""
        reserve = self._host.disk_reserve_bytes
        for _ in range(_FREEING_LOOKS):
            if (free := self._host.store.free_bytes()) >= reserve:
                break
            # XFS frees what was deleted a moment later, and when it is asked.
            await asyncio.sleep(_FREEING_PAUSE_S)
        else:
            raise Capacity(
                f"save {save_id} cannot be written: {format_bytes(free)} of disk are free; {format_bytes(reserve)} are "
                "kept in reserve"
            )
        return await _in_thread(lambda: self._host.saves.begin(save_id))

    async def save_disk(self, prepared: Prepared, save_id: SnapshotId) -> None:
        """See `Machine.save_disk`."""
        with self._no_room(prepared):
            await to_the_end(self._clone_disk(prepared, save_id), name="save")

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
        """See `Machine.finish_save`."""
        created_at = self._host.clock.now()
        manifest = await _in_thread(
            lambda: self._host.saves.finish(
                save_id,
                kind,
                engine,
                layers=layers,
                created_at=created_at,
                stopped_s=stopped_s,
                needs_address=needs_address,
                envs=envs,
            )
        )
        return manifest.saved()

    async def abandon_save(self, save_id: SnapshotId) -> None:
        """See `Machine.abandon_save`."""
        await _in_thread(lambda: self._host.saves.abandon(save_id))

    async def check_save(self, save_id: SnapshotId, kind: SaveKind, engine: str | None) -> Path:
        """See `Machine.check_save`."""
        return await _in_thread(lambda: self._host.saves.check(save_id, kind, engine))

    async def check_memory(self, save_id: SnapshotId) -> None:
        """See `Machine.check_memory`."""
        await _in_thread(lambda: self._host.saves.check_memory(save_id))

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """See `Machine.saved`."""
        try:
            return (await asyncio.to_thread(self._host.saves.manifest, save_id)).saved()
        except (NotFound, FailedPrecondition):
            return None

    async def discard_save(self, save_id: SnapshotId) -> None:
        """See `Machine.discard_save`."""
        await _in_thread(lambda: self._host.saves.discard(save_id))

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """See `Machine.sweep_saves`."""
        return [SnapshotId(id) for id in await _in_thread(lambda: self._host.saves.sweep(keep))]

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Machine.diff_saves`."""
        saves = self._host.saves
        roots = self.save_layers(newer)
        if older is not None and self.save_layers(older) != roots:
            raise FailedPrecondition(f"saves {older} and {newer} lie on different templates and cannot be compared")
        saveviews.make_places(self._views)

        def compare() -> list[FileDiff]:
            images = [None if id is None else saves.home(id) / DISK for id in (older, newer)]
            old, new = (
                saveviews.mount_side(self._views / name, image, roots)
                for name, image in zip(("older", "newer"), images, strict=True)
            )
            return savediff.diff(old, new, limit)

        async with self._comparing:
            return await in_private_mounts(compare, name=f"diff-{newer}")

    async def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        """See `Machine.export_save`."""
        async with aclosing(self._archives.write(save_id, facts)) as pieces:
            async for piece in pieces:
                yield piece

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Machine.import_save`."""
        return await self._archives.read(save_id, stream, admit)

    def save_layers(self, save_id: SnapshotId) -> tuple[Path, ...]:
        """See `Machine.save_layers`."""
        return tuple(map(self._host.saves.templates.root, self._host.saves.manifest(save_id).layers))

    def needs_address(self, save_id: SnapshotId) -> bool:
        """See `Machine.needs_address`."""
        return self._host.saves.manifest(save_id).needs_address

    def envs(self, save_id: SnapshotId) -> Mapping[str, str]:
        """See `Machine.envs`."""
        return self._host.saves.envs(save_id)

    async def _clone_disk(self, prepared: Prepared, save_id: SnapshotId) -> None:
        layer = self._host.layers.get(prepared.id)
        if not await asyncio.to_thread(mounts.is_mounted, layer.mount):
            return await asyncio.to_thread(self._host.saves.add_disk, save_id, layer.image)
        async with layers.frozen(layer):
            crash_point("save_files.frozen")
            await asyncio.to_thread(self._host.saves.add_disk, save_id, layer.image)

    @contextlib.contextmanager
    def _no_room(self, prepared: Prepared) -> Iterator[None]:
        """A disk whose image finds no room fails as if it were broken; tell what it is."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"the disk of {prepared.id} is gone") from error
        except OSError as error:
            if error.errno in _FULL and self._host.store.free_bytes() < _FULL_BYTES:
                raise Capacity(f"the disk of {prepared.id} cannot be written: the host's disk is full") from error
            if error.errno == errno.EROFS:
                raise FailedPrecondition(
                    f"the disk of {prepared.id} has been read-only since it could not be written, as when the host's "
                    "disk is full: roll the sandbox back to a snapshot, or end it"
                ) from error
            raise


async def _in_thread(work: Callable[[], T]) -> T:
    return await to_the_end(asyncio.to_thread(work), name="save")
