"""Builds as rows: asked for, begun, ended, and their layers kept. What does the building is `atolld.control.builds`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from atolld.core.build import BuildSpec, BuildState, Built, Failure
from atolld.core.template import Build, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG, check_tags, check_template_name
from atolld.foundation.clock import Clock
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId, new_build_id, new_template_id
from atolld.storage.templatestore import Memory, TemplateRecordStore

log = logging.getLogger("atolld.control")

WAITING_S = 24 * 3600.0
# Hidden templates are used by whoever defines them again; that is noted this often.
_NOTED_EVERY_S = 24 * 3600.0


class Pins(Protocol):
    """What keeps layers from being pruned; `BuildMachine` is one, and documents it."""

    def has_layer(self, digest: str) -> bool: ...

    def pin(self, owner: str, digests: tuple[str, ...]) -> None: ...

    def unpin(self, owner: str) -> None: ...


class TemplateBuilds:
    """The builds of all projects' templates. `memory_of`: see `TemplateSaves.memory`. `max_versions`: how many builds a
    project may have that are ready or going on; None: any number."""

    def __init__(
        self,
        store: TemplateRecordStore,
        pins: Pins,
        clock: Clock,
        memory_of: Callable[[SnapshotId], Awaitable[Memory]],
        max_versions: int | None = None,
    ) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._memory_of = memory_of
        self._max_versions = max_versions
        # Called when one has ended: earlier ones may be too many now.
        self.on_ended: Callable[[], None] = lambda: None

    async def request(
        self, project_id: ProjectId, name: str, tags: tuple[str, ...], spec: BuildSpec, *, hidden: bool = False
    ) -> tuple[TemplateRecord, Build]:
        """A new build, WAITING, of the project's template `name`, which is made when there is none; `hidden` counts
        only then. Tags are given to it once it is READY: these, or `default`.

        Raises InvalidArgument on a bad name, tag or bound; LimitExceeded.
        """
        spec.resources.check()
        now = self._clock.now()
        draft = TemplateRecord(
            new_template_id(),
            project_id,
            check_template_name(name),
            public=False,
            hidden=hidden,
            created_at=now,
            updated_at=now,
        )
        build = Build(new_build_id(), draft.id, project_id, BuildState.WAITING, spec, now, check_tags(tags))
        return await self._store.request(draft, build, self._max_versions)

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        """Raises NotFound."""
        found = await self._store.build(build_id)
        if found is None or found.project_id != project_id or found.template_id != template_id:
            raise NotFound(f"template {template_id[:80]!r} has no build {build_id[:80]!r}")
        return found

    async def begin(self, build: Build, start_command: str | None, ready_command: str | None) -> Build:
        """WAITING to BUILDING. Raises Conflict when it is not WAITING any more, LimitExceeded."""
        return await self._store.begin(build.id, start_command, ready_command, self._max_versions)

    async def finish(self, build_id: BuildId, built: Built, save_id: SnapshotId | None) -> Build:
        """BUILDING to READY, with its memory and its tags, in one transaction; its layers are kept from before that.

        Raises Conflict, NotFound when a layer is gone; the build is as it was then.
        """
        memory = None if save_id is None else await self._memory_of(save_id)
        await asyncio.to_thread(self._pins.pin, build_id, built.layers)
        build = await self._store.finish(build_id, built, self._clock.now(), memory)
        self.on_ended()
        return build

    async def fail(self, build_id: BuildId, failure: Failure) -> None:
        """WAITING or BUILDING to FAILED, and its layers are let go; one that has ended stays as it is."""
        try:
            await self._store.fail(build_id, failure, self._clock.now())
        except Conflict:
            return
        await asyncio.to_thread(self._pins.unpin, build_id)
        self.on_ended()

    async def ready(self, project_id: ProjectId, name: str) -> tuple[TemplateRecord, Build] | None:
        """The project's template of that name, hidden ones too, with the build that its plain name means; None when
        there is none, or not all of its layers are there. A hidden one is used by this, see `Leftovers`."""
        record = await self._store.by_name(project_id, name)
        build = None if record is None else await self._store.resolve(record.id, DEFAULT_TAG)
        if record is None or build is None or build.built is None:
            return None
        if not all(await asyncio.to_thread(lambda layers: list(map(self._pins.has_layer, layers)), build.built.layers)):
            return None
        now = self._clock.now()
        if record.hidden and record.updated_at < now - _NOTED_EVERY_S:
            await self._store.touch(record.id, now)
        return record, build

    async def interrupted(self) -> Sequence[BuildId]:
        """Those that an earlier daemon was at, and those whose plan has not come for a day."""
        return [build.id for build in await self._store.interrupted(self._clock.now() - WAITING_S)]
