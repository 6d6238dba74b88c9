"""What builds need of the machine's layers: bases, files of the caller, and layers made of them without a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Protocol

from atolld.core.build import Base, Copy
from atolld.foundation.ids import ProjectId
from atolld.images.baselayers import BaseLayers as BaseLayers
from atolld.images.registry import Credentials

# One line for the log of the build.
Told = Callable[[str], None]


class BuildMachine(Protocol):
    """`atolld.images.buildmachine.BuildMachine` is one. Layers are named by digests that the caller computes of all
    that they depend on; making one that is there already is success and does nothing."""

    async def base(
        self, project_id: ProjectId, base: Base, credentials: Credentials | None, refresh: bool, told: Told
    ) -> BaseLayers:
        """An image (pulled when it is not there, or when `refresh`) or one of the machine's own templates.

        Raises NotFound, and what `Puller.pull` raises. Templates of projects and stages are the caller's to resolve.
        """
        ...

    def has_layer(self, digest: str) -> bool:
        """Whether a whole layer of that digest is there; it then is not pruned for the next hour."""
        ...

    def layer_root(self, digest: str) -> Path:
        """Where its files are. Raises NotFound."""
        ...

    def size_bytes(self, digests: tuple[str, ...]) -> int:
        """What these layers take on disk; those that are gone count nothing."""
        ...

    def pin(self, owner: str, digests: tuple[str, ...]) -> None:
        """Keep these layers until `unpin(owner)`; `owner`: an id of this instance. Raises NotFound when one is gone."""
        ...

    def unpin(self, owner: str) -> None:
        """Let them go; none is success."""
        ...

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        """Whether the project has uploaded files under this name."""
        ...

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Store an uploaded tar (plain, gzip or zstd) under a name of 1 to 128 of `0-9a-zA-Z_-`; returns its bytes.

        Trusted in nothing: raises InvalidArgument, Capacity, and nothing of it is left then.
        """
        ...

    async def files_key(self, project_id: ProjectId, step: Copy, stage: tuple[str, ...] | None) -> str:
        """A digest of all that `step` reads: paths, contents, modes, links; not of times. `stage`: the layers of the
        stage it copies from, when it does.

        Raises NotFound when the files were not uploaded, InvalidArgument when a source matches nothing.
        """
        ...

    async def copy(
        self,
        project_id: ProjectId,
        step: Copy,
        stage: tuple[str, ...] | None,
        lower: tuple[str, ...],
        workdir: str,
        digest: str,
        manifest: Mapping[str, object],
    ) -> None:
        """Make the layer `digest`: what `step` puts over `lower`. Links in `lower` are followed within it, never out of
        it. Raises InvalidArgument with a reason (no such user, destination is a file, ...), Capacity."""
        ...

    async def make_directory(
        self, path: str, owner: str, lower: tuple[str, ...], digest: str, manifest: Mapping[str, object]
    ) -> bool:
        """Make the layer `digest` with the directory `path`; False, and no layer, when it is there in `lower`."""
        ...
