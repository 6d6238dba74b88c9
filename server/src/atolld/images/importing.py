"""Images out of archives: what `docker save` writes, a tar of an OCI layout, or what `export` gave."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import Capacity, Internal, InvalidArgument
from atolld.foundation.ids import ProjectId
from atolld.images.archiveindex import ArchivedImage, ArchiveIndex, Place
from atolld.images.blobs import RESERVE_BYTES, Blobs
from atolld.images.decompress import open_layer
from atolld.images.imagelayers import ImageLayers, chain_of
from atolld.images.imagestore import Image, ImageStore, Record
from atolld.images.layers import Layer
from atolld.images.locks import exclusive, is_held
from atolld.images.oci import Platform, host_platform
from atolld.images.pull import hold, record, topmost
from atolld.images.reference import Reference, parse_reference

MAX_ARCHIVE_BYTES = 64 << 30
_COPY_BYTES = 1 << 20
_LOCK = ".lock"


class Importer:
    """Imports into one cache. `platform`: by default the machine's."""

    def __init__(
        self,
        cache: Path,
        *,
        clock: Clock | None = None,
        platform: Platform | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._cache = cache
        self._clock = clock or SystemClock()
        self._platform = platform
        self._store = ImageStore(cache)
        self._layers = ImageLayers(cache, clock, reserve_bytes)
        self._blobs = Blobs(cache, clock, reserve_bytes)

    async def import_(self, project_id: ProjectId, name: Reference | None, pieces: AsyncIterator[bytes]) -> Image:
        """Store the image that an archive holds, compressed or not, under `name` or what the archive calls it.

        With several images in it, `name` chooses. Raises InvalidArgument (refused), NotFound (no image of that name),
        FailedPrecondition (not for this machine), Capacity; nothing is left then.
        """
        platform = self._platform or host_platform(os.uname().machine)
        async with hold(self._cache, lambda _: None):
            self._blobs.directory.mkdir(parents=True, exist_ok=True)
            work = self._blobs.directory / f"import-{secrets.token_hex(8)}"
            async with exclusive(work.with_suffix(_LOCK)):
                await asyncio.to_thread(_sweep, self._blobs.directory, work.name)
                return await self._import(project_id, name, pieces, platform, work)

    async def _import(
        self,
        project_id: ProjectId,
        name: Reference | None,
        pieces: AsyncIterator[bytes],
        platform: Platform,
        work: Path,
    ) -> Image:
        files = [work.with_suffix(suffix) for suffix in (".archive", ".tar", ".layer")]
        try:
            await self._spool(pieces, files[0])
            tar = await asyncio.to_thread(self._uncompressed, files[0], files[1])
            index = await asyncio.to_thread(ArchiveIndex, tar)
            found = await asyncio.to_thread(index.image, name, platform)
            return await self._store_image(project_id, name or _named(found), found, tar, files[2])
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Capacity("the disk became full while an archive was imported") from None
            raise
        finally:
            for file in (*files, work.with_suffix(_LOCK)):
                file.unlink(missing_ok=True)

    async def _spool(self, pieces: AsyncIterator[bytes], target: Path) -> None:
        size = 0
        with target.open("xb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > MAX_ARCHIVE_BYTES:
                    raise InvalidArgument(f"the archive has more than {MAX_ARCHIVE_BYTES} bytes")
                await asyncio.to_thread(file.write, piece)
                self._blobs.check_room(0)

    def _uncompressed(self, archive: Path, target: Path) -> Path:
        with archive.open("rb") as file:
            # A tar has its magic later; what begins otherwise is compressed, or is told to be no tar.
            if file.read(2) not in (b"\x1f\x8b", b"\x28\xb5"):
                return archive
        with open_layer(archive) as stream, target.open("xb") as out:
            while data := stream.read(_COPY_BYTES):
                out.write(data)
                self._blobs.check_room(0)
        archive.unlink()
        return target

    async def _store_image(
        self, project_id: ProjectId, name: Reference, found: ArchivedImage, tar: Path, scratch: Path
    ) -> Image:
        layers: list[Layer] = []
        added: set[str] = set()
        try:
            for (place, digest), id in zip(found.layers, chain_of(found.config.diff_ids), strict=True):
                layer = self._layers.find(id)
                if layer is None:
                    await asyncio.to_thread(_cut_out, tar, place, scratch, digest, self._blobs.check_room)
                    layer, is_new = await self._layers.add(id, scratch, layers)
                    if is_new:
                        added.add(layer.digest)
                layers.append(layer)
            new = Record(
                name, found.digest, str(found.config.platform), topmost(layers), found.config.run, self._clock.now()
            )
            image = await record(self._cache, self._store, project_id, new)
        except BaseException:
            # Nothing of an upload is left to go on from.
            await self._layers.drop(added)
            raise
        if image is None:
            raise Internal(f"layers vanish while they are imported: is {self._cache} being cleaned by hand?")
        return image


def _sweep(directory: Path, own: str) -> None:
    """Remove what imports left whose daemon was killed."""
    for lock in directory.glob(f"import-*{_LOCK}"):
        if lock.stem != own and not is_held(lock):
            for file in directory.glob(f"{lock.stem}.*"):
                file.unlink(missing_ok=True)


def _named(found: ArchivedImage) -> Reference:
    if found.name is None:
        raise InvalidArgument("the archive does not name its image; say how it is to be called")
    return parse_reference(found.name)


def _cut_out(tar: Path, place: Place, target: Path, digest: str | None, check_room: Callable[[int], None]) -> None:
    """Copy a layer out of the archive. Raises InvalidArgument when it has not the digest it should have."""
    check_room(place.size_bytes)
    hasher = hashlib.sha256()
    with tar.open("rb") as source, target.open("wb") as out:
        source.seek(place.offset)
        left = place.size_bytes
        while left and (data := source.read(min(_COPY_BYTES, left))):
            hasher.update(data)
            out.write(data)
            left -= len(data)
    if digest is not None and f"sha256:{hasher.hexdigest()}" != digest:
        raise InvalidArgument(f"the archive holds sha256:{hasher.hexdigest()} where the layer {digest} should be")
