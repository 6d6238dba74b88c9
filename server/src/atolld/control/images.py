"""Images of a project: pulled from registries, imported, exported, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import Unimplemented
from atolld.foundation.ids import ProjectId
from atolld.images.imagestore import Image
from atolld.images.pull import PullProgress
from atolld.images.reference import Reference, parse_reference
from atolld.images.registry import Credentials

# Steps that a slow reader has not taken yet; beyond these, steps within a layer are left out.
_MAX_BACKLOG = 64


class ImageEngine(Protocol):
    """What works on the machine; `atolld.images.engine.ImageEngine` is one, and documents it."""

    def list(self, project_id: ProjectId) -> Sequence[Image]: ...

    def get(self, project_id: ProjectId, reference: Reference) -> Image: ...

    def delete(self, project_id: ProjectId, reference: Reference) -> None: ...

    def pull(
        self,
        project_id: ProjectId,
        reference: Reference,
        credentials: Credentials | None,
        insecure: bool,
        progress: Callable[[PullProgress], None],
    ) -> Awaitable[Image]: ...

    def import_(
        self, project_id: ProjectId, name: Reference | None, pieces: AsyncIterator[bytes]
    ) -> Awaitable[Image]: ...

    def export(self, project_id: ProjectId, name: str) -> AsyncIterator[bytes]: ...

    def prune(self) -> Awaitable[Sequence[str]]: ...


class Images:
    """`engine` None: a node without root file systems, where there are none. Names are references, see `Reference`.

    Every method raises InvalidArgument on a bad reference, and Unimplemented without an engine.
    """

    def __init__(self, engine: ImageEngine | None) -> None:
        self._engine = engine

    async def list(self, project_id: ProjectId) -> Sequence[Image]:
        """The project's, by name."""
        return await asyncio.to_thread(self._there().list, project_id)

    async def get(self, project_id: ProjectId, name: str) -> Image:
        """Raises NotFound."""
        reference = parse_reference(name)
        return self._there().get(project_id, reference)

    async def delete(self, project_id: ProjectId, name: str) -> None:
        """Forget it. Running and saved sandboxes keep its layers; else `prune` removes them. Raises NotFound."""
        reference = parse_reference(name)
        self._there().delete(project_id, reference)

    async def pull(
        self, project_id: ProjectId, name: str, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> AsyncIterator[PullProgress | Image]:
        """The steps of a pull, and at last the image. Who stops to listen ends the pull; the next one goes on from it.

        Raises, with the first step or later, what `Puller.pull` raises.
        """
        engine, reference = self._there(), parse_reference(name)
        steps: asyncio.Queue[PullProgress | None] = asyncio.Queue()

        def told(step: PullProgress) -> None:
            if step.phase != "download" or step.bytes == step.total_bytes or steps.qsize() < _MAX_BACKLOG:
                steps.put_nowait(step)

        async def work() -> Image:
            return await engine.pull(project_id, reference, credentials, insecure, told)

        pull = spawn(work(), name="pull-image", report=False)
        pull.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            yield pull.result()
        finally:
            await cancel_and_wait(pull)

    async def import_(self, project_id: ProjectId, name: str | None, pieces: AsyncIterator[bytes]) -> Image:
        """Store the image that an archive holds. Raises as `Importer.import_`."""
        reference = None if name is None else parse_reference(name)
        return await self._there().import_(project_id, reference, pieces)

    def export(self, project_id: ProjectId, name: str) -> AsyncIterator[bytes]:
        """An image, or a template, as an archive. Raises NotFound, with the first piece."""
        return self._there().export(project_id, name)

    async def prune(self) -> Sequence[str]:
        """Remove what nobody needs of all projects; returns the digests of the layers. Raises Unavailable."""
        return await self._there().prune()

    def _there(self) -> ImageEngine:
        if self._engine is None:
            raise Unimplemented("sandboxes of this node have no root file system of their own, so there are no images")
        return self._engine
