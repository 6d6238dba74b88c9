"""The rows of templates and builds, as builds write them."""

from __future__ import annotations

from collections.abc import Sequence

from atolld.control.buildmachine import BuildMachine
from atolld.core.build import BuildSpec, BuildState, Built, Failure
from atolld.core.template import Build, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG, check_tags, check_template_name
from atolld.foundation.clock import Clock
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, new_build_id, new_template_id
from atolld.storage.templatestore import Memory, TemplateRecordStore

# A build that was asked for and never started is given up after that.
FORGOTTEN_S = 24 * 3600.0


class BuildRows:
    """Implements `atolld.control.builds.records.BuildRecords`."""

    def __init__(self, store: TemplateRecordStore, machine: BuildMachine, clock: Clock) -> None:
        self._store = store
        self._machine = machine
        self._clock = clock

    async def request(
        self,
        project_id: ProjectId,
        name: str,
        tags: tuple[str, ...],
        spec: BuildSpec,
        *,
        public: bool | None = None,
        hidden: bool = False,
    ) -> tuple[TemplateRecord, Build]:
        """See `BuildRecords.request`."""
        check_template_name(name)
        tags = check_tags(tags)
        now = self._clock.now()
        draft = TemplateRecord(
            id=new_template_id(),
            project_id=project_id,
            name=name,
            public=False,
            hidden=hidden,
            created_at=now,
            updated_at=now,
        )
        build = Build(
            id=new_build_id(),
            template_id=draft.id,
            project_id=project_id,
            state=BuildState.WAITING,
            spec=spec,
            created_at=now,
            tags=tags,
        )
        template, build = await self._store.request(draft, build)
        if public is not None and public != template.public:
            template = await self._store.set_public(template.id, public, now)
        return template, build

    async def template(self, template_id: TemplateId) -> TemplateRecord:
        """See `BuildRecords.template`."""
        found = await self._store.find(template_id)
        if found is None:
            raise NotFound(f"there is no template {template_id}")
        return found

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        """See `BuildRecords.get`."""
        build = await self._store.build(build_id)
        if build is None or (build.project_id, build.template_id) != (project_id, template_id):
            raise NotFound(f"there is no build {build_id} of a template {template_id}")
        return build

    async def begin(self, build: Build, start_command: str | None, ready_command: str | None) -> Build:
        """See `BuildRecords.begin`."""
        return await self._store.begin(build.id, start_command, ready_command)

    async def finish(self, build_id: BuildId, built: Built, memory: Memory | None) -> Build:
        """See `BuildRecords.finish`."""
        return await self._store.finish(build_id, built, self._clock.now(), memory)

    async def fail(self, build_id: BuildId, failure: Failure) -> None:
        """See `BuildRecords.fail`."""
        try:
            await self._store.fail(build_id, failure, self._clock.now())
        except Conflict:
            # It has ended, or its template was deleted meanwhile.
            return

    async def ready(self, project_id: ProjectId, name: str) -> tuple[TemplateRecord, Build] | None:
        """See `BuildRecords.ready`."""
        template = await self._store.by_name(project_id, name)
        build = None if template is None else await self._store.resolve(template.id, DEFAULT_TAG)
        if template is None or build is None or build.built is None:
            return None
        if not all(map(self._machine.has_layer, build.built.layers)):
            return None
        return template, build

    async def interrupted(self) -> Sequence[BuildId]:
        """See `BuildRecords.interrupted`."""
        return [build.id for build in await self._store.interrupted(self._clock.now() - FORGOTTEN_S)]
