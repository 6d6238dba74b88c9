"""A node whose sandboxes have no root file system of their own: there is nothing to build."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NoReturn

from atolld.control.buildmachine import BaseLayers, Told
from atolld.core.build import Base, Copy
from atolld.foundation.errors import Unimplemented
from atolld.foundation.ids import ProjectId
from atolld.images.registry import Credentials


class NowhereToBuild:
    """Implements `BuildMachine`; whatever would need a layer raises Unimplemented."""

    async def base(
        self, project_id: ProjectId, base: Base, credentials: Credentials | None, refresh: bool, told: Told
    ) -> BaseLayers:
        """See `BuildMachine.base`."""
        _refuse()

    def has_layer(self, digest: str) -> bool:
        """None is there."""
        return False

    def layer_root(self, digest: str) -> Path:
        """See `BuildMachine.layer_root`."""
        _refuse()

    def size_bytes(self, digests: tuple[str, ...]) -> int:
        """Of nothing."""
        return 0

    def pin(self, owner: str, digests: tuple[str, ...]) -> None:
        """See `BuildMachine.pin`."""
        _refuse()

    def unpin(self, owner: str) -> None:
        """Nothing is kept."""

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        """See `BuildMachine.has_files`."""
        _refuse()

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        """See `BuildMachine.put_files`."""
        _refuse()

    async def files_key(self, project_id: ProjectId, step: Copy, stage: tuple[str, ...] | None) -> str:
        """See `BuildMachine.files_key`."""
        _refuse()

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
        """See `BuildMachine.copy`."""
        _refuse()

    async def make_directory(
        self, path: str, owner: str, lower: tuple[str, ...], digest: str, manifest: Mapping[str, object]
    ) -> bool:
        """See `BuildMachine.make_directory`."""
        _refuse()


def _refuse() -> NoReturn:
    raise Unimplemented("sandboxes of this node have no root file system of their own, so nothing can be built")
