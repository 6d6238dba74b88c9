"""Everything that is done with images, over one cache: what `atolld.control.images` is handed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import InvalidArgument, NotFound, Unavailable
from atolld.foundation.ids import ProjectId
from atolld.images.exporting import Exported, export
from atolld.images.imagestore import Image, ImageStore
from atolld.images.importing import Importer
from atolld.images.oci import RunConfig, host_platform
from atolld.images.pull import OnProgress, Puller
from atolld.images.reference import Reference, parse_reference
from atolld.images.registry import Credentials
from atolld.images.templates import Template, TemplateStore

# Pulls at once; more only share the same line and disk.
MAX_PULLS = 4
PRUNE_PATIENCE_S = 20.0
_BATCH_BYTES = 1 << 20
_BASE_RUN = RunConfig(user="user", cmd=("/bin/bash",))


class ImageEngine:
    """`templates`: those of the same cache; they can be exported as images, too."""

    def __init__(
        self, cache: Path, templates: TemplateStore, *, clock: Clock | None = None, puller: Puller | None = None
    ) -> None:
        clock = clock or SystemClock()
        self._store = ImageStore(cache)
        self._templates = templates
        self._puller = puller or Puller(cache, clock=clock)
        self._importer = Importer(cache, clock=clock)
        self._gate = asyncio.Semaphore(MAX_PULLS)

    def list(self, project_id: ProjectId) -> Sequence[Image]:
        """See `ImageStore.list`."""
        return self._store.list(project_id)

    def get(self, project_id: ProjectId, reference: Reference) -> Image:
        """See `ImageStore.get`."""
        return self._store.get(project_id, reference)

    def delete(self, project_id: ProjectId, reference: Reference) -> None:
        """See `ImageStore.delete`."""
        self._store.delete(project_id, reference)

    async def pull(
        self,
        project_id: ProjectId,
        reference: Reference,
        credentials: Credentials | None,
        insecure: bool,
        progress: OnProgress,
    ) -> Image:
        """See `Puller.pull`; a fifth pull at once waits."""
        async with self._gate:
            return await self._puller.pull(project_id, reference, credentials, insecure=insecure, progress=progress)

    async def import_(self, project_id: ProjectId, name: Reference | None, pieces: AsyncIterator[bytes]) -> Image:
        """See `Importer.import_`."""
        async with self._gate:
            return await self._importer.import_(project_id, name, pieces)

    async def export(self, project_id: ProjectId, name: str) -> AsyncIterator[bytes]:
        """The archive of an image, or of the template `name`, see `exporting.export`. Raises NotFound."""
        pieces = export(self._exported(project_id, name))
        while batch := await asyncio.to_thread(_batch, pieces):
            yield batch

    async def prune(self) -> Sequence[str]:
        """Remove what no template, image, sandbox or save needs; returns the digests of the layers.

        Raises Unavailable when a build or a pull goes on.
        """
        try:
            async with asyncio.timeout(PRUNE_PATIENCE_S):
                return await self._templates.prune()
        except TimeoutError:
            raise Unavailable("images are being pulled or built; prune when they are done") from None

    def _exported(self, project_id: ProjectId, name: str) -> Exported:
        try:
            template = self._templates.get(name)
        except (InvalidArgument, NotFound):
            image = self._store.get(project_id, parse_reference(name))
            platform = host_platform(os.uname().machine)
            return Exported(image.layers, image.run, platform, image.reference)
        return _of_template(template)


def _batch(pieces: Iterator[bytes]) -> bytes:
    """The next megabyte or so: a thread for each of a million small pieces would take longer than reading them."""
    batch = bytearray()
    while len(batch) < _BATCH_BYTES and (piece := next(pieces, None)) is not None:
        batch += piece
    return bytes(batch)


def _of_template(template: Template) -> Exported:
    platform = host_platform(os.uname().machine)
    return Exported(template.layers, _BASE_RUN, platform, parse_reference(f"localhost/{template.name}"))
