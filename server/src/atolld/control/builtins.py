"""Templates that come with Atoll and are built on demand, by the same engine as everybody's own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from atolld.control.builds.builds import Builds
from atolld.core.build import BuildSpec, Plan
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId

_PIECE_BYTES = 1 << 20


class Recipe(Protocol):
    """How one is built; `atolld.images.interpreter.InterpreterRecipe` is one."""

    @property
    def spec(self) -> BuildSpec:
        """How it is built, and what its sandboxes get."""
        ...

    def files(self) -> bytes:
        """A tar of the files that it copies; the same bytes for the same files. Blocks."""
        ...

    def plan(self, files: str, options: Sequence[str]) -> Plan:
        """What is built; `files`: the name under which they were uploaded. Raises InvalidArgument on an option that it
        does not have."""
        ...


class Builtins:
    """Builds them into projects, under their own names."""

    def __init__(self, builds: Builds, recipes: Mapping[str, Recipe]) -> None:
        self._builds = builds
        self._recipes = recipes

    async def build(
        self, project_id: ProjectId, name: str, options: Sequence[str] = ()
    ) -> tuple[TemplateRecord, Build]:
        """Begin to build the project's template `name`; returns at once. What was built before for any project is in
        the cache. Raises NotFound, InvalidArgument, and as `Builds.request` and `Builds.start`."""
        recipe = self._recipes.get(name)
        if recipe is None:
            known = ", ".join(sorted(self._recipes)) or "none"
            raise NotFound(f"no template {name[:80]!r} comes with Atoll (known: {known})")
        data = await asyncio.to_thread(recipe.files)
        files = hashlib.sha256(data).hexdigest()
        plan = recipe.plan(files, options)
        if not await self._builds.has_files(project_id, files):
            await self._builds.put_files(project_id, files, _pieces(data))
        template, build = await self._builds.request(project_id, name, (), recipe.spec)
        return template, await self._builds.start(project_id, template.id, build.id, plan)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
