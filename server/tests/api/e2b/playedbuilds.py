"""Builds that have rows and build nothing: for tests of what the routes translate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from atolld.control.builds.builds import LEVELS
from atolld.core.build import BuildSpec, BuildState, Built, Failure, ImageConfig, LogEntry, Plan
from atolld.core.defaults import GuestDefaults
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.clock import Clock
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, new_build_id, new_template_id
from atolld.images.registry import Credentials
from atolld.storage.templates import SqlTemplates


@dataclass
class PlayedBuilds:
    """Implements what the routes call of `Builds`, with rows in `store`. `plans`, `credentials`: of started builds;
    `lines`: of every log."""

    store: SqlTemplates
    clock: Clock
    plans: list[Plan] = field(default_factory=list)
    credentials: list[Credentials | None] = field(default_factory=list)
    files: dict[tuple[ProjectId, str], bytes] = field(default_factory=dict)
    lines: list[LogEntry] = field(default_factory=list)

    async def request(
        self, project_id: ProjectId, name: str, tags: tuple[str, ...] = (), spec: BuildSpec | None = None
    ) -> tuple[TemplateRecord, Build]:
        spec = spec or BuildSpec()
        spec.resources.check()
        draft = TemplateRecord(new_template_id(), project_id, name, False, False, self.clock.now(), self.clock.now())
        build = Build(new_build_id(), draft.id, project_id, BuildState.WAITING, spec, self.clock.now(), tags)
        return await self.store.request(draft, build)

    async def start(
        self,
        project_id: ProjectId,
        template_id: TemplateId,
        build_id: BuildId,
        plan: Plan,
        *,
        credentials: Credentials | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Build:
        build = await self.get(project_id, template_id, build_id)
        if build.state is not BuildState.WAITING:
            raise FailedPrecondition(f"build {build_id} is {build.state.value}")
        self.plans.append(plan)
        self.credentials.append(credentials)
        return await self.store.begin(build_id, plan.start_command, plan.ready_command)

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        build = await self.store.build(build_id)
        if build is None or (build.project_id, build.template_id) != (project_id, template_id):
            raise NotFound(f"template {template_id} has no build {build_id}")
        return build

    async def logs(
        self,
        project_id: ProjectId,
        template_id: TemplateId,
        build_id: BuildId,
        *,
        offset: int = 0,
        limit: int = 1000,
        level: str | None = None,
    ) -> Sequence[LogEntry]:
        await self.get(project_id, template_id, build_id)
        grave = LEVELS if level is None else LEVELS[LEVELS.index(level) :]
        return [line for line in self.lines if level is None or line.level in grave][offset:][:limit]

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        return (project_id, name) in self.files

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        data = b"".join([piece async for piece in pieces])
        self.files[project_id, name] = data
        return len(data)

    async def finish(self, build_id: str, workdir: str | None = None) -> Build:
        """Let a started build become ready."""
        built = Built(("a" * 64,), GuestDefaults(workdir=workdir), ImageConfig(), 5)
        return await self.store.finish(BuildId(build_id), built, self.clock.now())

    async def fail(self, build_id: str, failure: Failure) -> Build:
        """Let a build fail."""
        return await self.store.fail(BuildId(build_id), failure, self.clock.now())
