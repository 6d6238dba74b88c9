"""Saves as archives: what `Node.export_save` writes and `Node.import_save` reads.

An import stores nothing before the head's signature is verified and everything that the manifest tells was judged: the
sender, the engine, the CPU, the room, the caller's own conditions. What follows goes into a save that has no name yet
and is compared with the manifest before any of it is used; only then it gets its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import CleanupStack, to_the_end
from atolld.foundation.errors import Capacity, FailedPrecondition
from atolld.foundation.ids import SnapshotId
from atolld.foundation.units import format_bytes
from atolld.host.archivehead import (
    MEMORY_NAMES,
    PREFIX_BYTES,
    ArchiveManifest,
    Body,
    DiskBody,
    LayerBody,
    open_head,
    rest_of_head,
    seal,
)
from atolld.host.archivekeys import ArchiveKeys
from atolld.host.archivestream import ArchiveReader, Inflater, deflated, measure
from atolld.host.cpuflags import read_cpu_flags
from atolld.host.manifest import Manifest
from atolld.host.saves import DISK, MEMORY, Saves, no_room
from atolld.host.sparsestream import SparseWriter, read_sparse
from atolld.images.layerarchive import LayerArchives
from atolld.node.interface import Admit

T = TypeVar("T")

_READ_BYTES = 1 << 20
# Handed to the network together; also how much of an import waits for the disk at a time.
_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SaveArchives:
    """`keys` gives the machine's keys, made at the first use. `free_bytes`: room for saves; `reserve_bytes` of it, and
    of the layers' disk, stay free."""

    saves: Saves
    layers: LayerArchives
    keys: Callable[[], ArchiveKeys]
    free_bytes: Callable[[], int]
    reserve_bytes: int

    async def write(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        """See `Machine.export_save`. Takes a pass over everything before the first byte."""
        head, bodies = await asyncio.to_thread(self._prepare, save_id, facts)
        yield head
        for body in bodies:
            pieces = deflated(body)
            while batch := await to_the_end(asyncio.to_thread(_take, pieces), name="archive"):
                yield batch

    async def read(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Machine.import_save`."""
        reader = ArchiveReader(stream)
        keys = await asyncio.to_thread(self.keys)
        manifest = open_head(await reader.exactly(rest_of_head(await reader.exactly(PREFIX_BYTES))), keys)
        _check_cpu(manifest)
        found = await asyncio.to_thread(lambda: [self.layers.find(layer) for layer in manifest.layers])
        self._check_room(
            [layer for layer, digest in zip(manifest.layers, found, strict=True) if digest is None], manifest
        )
        await admit(manifest.facts, _expected(manifest))
        return await self._store(save_id, manifest, reader, found)

    def _prepare(self, save_id: SnapshotId, facts: Mapping[str, object]) -> tuple[bytes, list[Iterator[bytes]]]:
        save = self.saves.verify(save_id)
        home = self.saves.home(save_id)
        names = [file.name for file in save.memory]
        if unknown := set(names) - MEMORY_NAMES:
            raise FailedPrecondition(f"save {save_id} has the memory file {min(unknown)!r}, which no archive can hold")
        manifest = ArchiveManifest(
            kind=save.kind,
            engine=save.engine,
            created_at=save.created_at,
            stopped_s=save.stopped_s,
            cpu_flags=save.cpu_flags,
            facts=facts,
            layers=tuple(map(self.layers.describe, save.layers)),
            memory={name: measure(_read_file(home / MEMORY / name)) for name in names},
            disk=DiskBody(save.disk.size_bytes, save.disk.data_bytes, measure(read_sparse(home / DISK))),
        )
        bodies = [self.layers.read(digest) for digest in save.layers]
        bodies += [_read_file(home / MEMORY / name) for name in names]
        return seal(manifest, self.keys()), [*bodies, read_sparse(home / DISK)]

    def _check_room(self, missing: list[LayerBody], manifest: ArchiveManifest) -> None:
        tars = sum(layer.body.size_bytes for layer in missing)
        wanted = tars + manifest.memory_bytes + max(manifest.disk.data_bytes, manifest.disk.body.size_bytes)
        unpacked = sum(layer.disk_bytes for layer in missing)
        for what, bytes_wanted, free in (
            ("saves", wanted, self.free_bytes()),
            ("templates", unpacked, self.layers.free_bytes()),
        ):
            if bytes_wanted and bytes_wanted + self.reserve_bytes > free:
                raise Capacity(
                    f"the archive takes {format_bytes(bytes_wanted)} of the disk for {what}; {format_bytes(free)} are "
                    f"free, of which {format_bytes(self.reserve_bytes)} are kept in reserve"
                )

    async def _store(
        self, save_id: SnapshotId, manifest: ArchiveManifest, reader: ArchiveReader, found: list[str | None]
    ) -> Saved:
        async with CleanupStack() as undo:
            undo.push("save", lambda: asyncio.to_thread(self.saves.abandon, save_id))
            part = (await to_the_end(asyncio.to_thread(self.saves.begin, save_id), name="archive")).parent
            with no_room("the archive"):
                tars: dict[int, Path] = {}
                for number, (layer, digest) in enumerate(zip(manifest.layers, found, strict=True)):
                    if digest is not None:
                        await _skip(reader)
                        continue
                    tars[number] = part / f"layer-{number}.tar"
                    await _receive_file(reader, layer.body, tars[number], f"layer {number}")
                for name, body in manifest.memory.items():
                    await _receive_file(reader, body, part / MEMORY / name, name)
                await _receive_disk(reader, manifest.disk, part / DISK)
                await reader.end()
                save = await self._finish(save_id, manifest, tars, found)
            undo.keep()
        return save.saved()

    async def _finish(
        self, save_id: SnapshotId, manifest: ArchiveManifest, tars: Mapping[int, Path], found: list[str | None]
    ) -> Manifest:
        added: list[str] = []
        # The lock is held until the save keeps its layers: before that, cleaning the cache would take them away.
        async with self.layers.locked():
            try:
                for number, tar in tars.items():
                    # Not there when it was looked for; an import beside this one may have brought it.
                    digest = await asyncio.to_thread(self.layers.find, manifest.layers[number])
                    if digest is None:
                        digest = await to_the_end(
                            asyncio.to_thread(self.layers.add, manifest.layers[number], tar), name="archive"
                        )
                        added.append(digest)
                    found[number] = digest
                    await asyncio.to_thread(tar.unlink)
                roots = tuple(self.layers.root(digest) for digest in found if digest is not None)
                return await to_the_end(
                    asyncio.to_thread(
                        lambda: self.saves.finish(
                            save_id,
                            manifest.kind,
                            manifest.engine,
                            layers=roots,
                            created_at=manifest.created_at,
                            stopped_s=manifest.stopped_s,
                            cpu_flags=manifest.cpu_flags,
                        )
                    ),
                    name="archive",
                )
            except BaseException:
                await to_the_end(asyncio.to_thread(self._forget, save_id, added), name="archive")
                raise

    def _forget(self, save_id: SnapshotId, added: list[str]) -> None:
        self.saves.abandon(save_id)
        self.layers.drop(added)


def _expected(manifest: ArchiveManifest) -> Saved:
    digests = tuple(layer.digest for layer in manifest.layers)
    disk_bytes = manifest.disk.data_bytes
    return Saved(manifest.kind, manifest.memory_bytes, disk_bytes, manifest.engine, manifest.stopped_s, digests)


def _check_cpu(manifest: ArchiveManifest) -> None:
    missing = manifest.cpu_flags - read_cpu_flags()
    if missing and manifest.kind is SaveKind.MEMORY:
        raise FailedPrecondition(
            f"the archive was made on a CPU with {', '.join(sorted(missing))}, which this machine's lacks, and its "
            "programs may rely on that; export a snapshot of kind 'filesystem' instead"
        )


def _read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            yield data


def _take(pieces: Iterator[bytes]) -> bytes:
    batch = bytearray()
    for piece in pieces:
        batch += piece
        if len(batch) >= _BATCH_BYTES:
            break
    return bytes(batch)


async def _skip(reader: ArchiveReader) -> None:
    async for _ in reader.body():
        pass


async def _receive_file(reader: ArchiveReader, body: Body, path: Path, what: str) -> None:
    with await asyncio.to_thread(path.open, "xb") as file:
        await _receive(reader, Inflater(body, file.write, what))


async def _receive_disk(reader: ArchiveReader, disk: DiskBody, path: Path) -> None:
    writer = SparseWriter(path, disk.limit_bytes)
    try:
        await _receive(reader, Inflater(disk.body, writer.write, "the disk"))
        writer.finish()
    finally:
        writer.close()


async def _receive(reader: ArchiveReader, inflater: Inflater) -> None:
    async with aclosing(reader.body()) as pieces:
        async for piece in pieces:
            await to_the_end(asyncio.to_thread(inflater.feed, piece), name="archive")
    inflater.finish()
