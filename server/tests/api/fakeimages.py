"""An engine for images that keeps what it was asked, in the place of `atolld.images.engine.ImageEngine`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from atolld.foundation.errors import AtollError, InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId
from atolld.images.imagestore import Image
from atolld.images.oci import RunConfig
from atolld.images.pull import PullProgress
from atolld.images.reference import Reference, parse_reference
from atolld.images.registry import Credentials

IMAGE = Image(
    reference=parse_reference("registry.example/owner/app:1"),
    digest="sha256:" + "1" * 64,
    platform="linux/amd64",
    layers=(Path("/cache/layers/aa/root"), Path("/cache/layers/bb/root")),
    run=RunConfig({"A": "b"}, "1000", "/app", ("/run",), ("--x",)),
    built_at=1.0,
    size_bytes=5,
)
STEPS = (PullProgress("resolve"), PullProgress("download", "sha256:cc", 5, 10), PullProgress("done"))


@dataclass
class FakeImages:
    """`fault` is raised by a pull after `steps` of its steps; `hangs`: it never ends."""

    all: dict[Reference, Image] = field(default_factory=dict)
    asked: list[tuple[object, ...]] = field(default_factory=list)
    fault: AtollError | None = None
    steps: int = len(STEPS)
    hangs: bool = False
    cancelled: bool = False

    def list(self, project_id: ProjectId) -> Sequence[Image]:
        return [*self.all.values()]

    def get(self, project_id: ProjectId, reference: Reference) -> Image:
        if reference not in self.all:
            raise NotFound(f"there is no image {reference.short!r} here")
        return self.all[reference]

    def delete(self, project_id: ProjectId, reference: Reference) -> None:
        self.get(project_id, reference)
        del self.all[reference]

    async def pull(
        self,
        project_id: ProjectId,
        reference: Reference,
        credentials: Credentials | None,
        insecure: bool,
        progress: Callable[[PullProgress], None],
    ) -> Image:
        self.asked.append((reference, credentials, insecure))
        for step in STEPS[: self.steps]:
            progress(step)
            await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled = True
        self.all[reference] = replace(IMAGE, reference=reference)
        return self.all[reference]

    async def import_(self, project_id: ProjectId, name: Reference | None, pieces: AsyncIterator[bytes]) -> Image:
        size = 0
        async for piece in pieces:
            if piece.startswith(b"bad"):
                raise InvalidArgument("this is no archive of an image")
            size += len(piece)
        self.asked.append(("import", name, size))
        return IMAGE if name is None else replace(IMAGE, reference=name)

    async def export(self, project_id: ProjectId, name: str) -> AsyncIterator[bytes]:
        self.get(project_id, parse_reference(name))
        yield b"head"
        yield b"x" * 300_000

    async def prune(self) -> Sequence[str]:
        return ["aa"]
