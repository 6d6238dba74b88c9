"""What a new sandbox starts from: a template's layers, or a snapshot's save."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from atolld.control.projecttemplates import ProjectTemplate
from atolld.control.templates import Template, Templates
from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import SandboxSpec
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId, is_snapshot_id
from atolld.node.interface import Source
from atolld.storage.store import SnapshotStore


@dataclass(frozen=True, slots=True)
class Start:
    """`layers` of a template, lowest first; or `source`, a save. `head_id`: the parent of its next snapshot.
    `defaults`: how it wants to be used; memory has its own. `version`: what tells it from what the same name meant
    before. `build_id`: the build of a project's template that it began with, perhaps long ago."""

    template_id: TemplateId
    template_name: str
    version: str
    layers: tuple[Path, ...] = ()
    source: Source | None = None
    head_id: SnapshotId | None = None
    defaults: GuestDefaults = field(default_factory=GuestDefaults)
    build_id: BuildId | None = None


class Starts:
    """Finds them by the name a caller gives."""

    def __init__(self, templates: Templates, snapshots: SnapshotStore) -> None:
        self._templates = templates
        self._snapshots = snapshots

    async def find(self, project_id: ProjectId, spec: SandboxSpec) -> tuple[Start, SandboxSpec]:
        """The start that `spec.template` names, and the spec with what the start decides.

        Memory, a snapshot's or a template's, can only go on with the runtime and resources it was saved with; files
        keep the size of their disk. Templates come before snapshots of the same name. Raises InvalidArgument, NotFound.
        """
        name = spec.template
        if not is_snapshot_id(name):
            try:
                template = await self._templates.get(project_id, name)
            except (InvalidArgument, NotFound) as error:
                missing: InvalidArgument | NotFound = error
            else:
                return of_template(template, spec)
        else:
            missing = NotFound(f"there is no template {name!r}")
        try:
            snapshot = await self._snapshots.get(project_id, name)
            if snapshot.role is not SnapshotRole.SNAPSHOT:
                # What a paused sandbox resumes from is its own, whoever knows its id.
                raise NotFound("it is a sandbox's own")
        except NotFound:
            raise NotFound(f"{missing.message}, and no snapshot of that name or id either") from None
        start = of_snapshot(snapshot)
        if snapshot.kind is SaveKind.FILESYSTEM:
            defaults = await self.defaults_of(project_id, snapshot.template_name, snapshot.build_id)
            start = replace(start, defaults=defaults)
        return start, spec_of(snapshot, spec)

    async def defaults_of(
        self, project_id: ProjectId, template_name: str, build_id: BuildId | None = None
    ) -> GuestDefaults:
        """How a template or image wants to be used, for files that once were started from it; `build_id`: the version
        of it, which may have been deleted since.

        Those of `base` when it is gone: files alone do not say it.
        """
        if build_id is not None and self._templates.projects is not None:
            built = await self._templates.projects.of_build(build_id)
            return GuestDefaults() if built is None else built.defaults
        try:
            return (await self._templates.get(project_id, template_name)).defaults
        except (InvalidArgument, NotFound):
            return GuestDefaults()


def of_template(template: Template, spec: SandboxSpec) -> tuple[Start, SandboxSpec]:
    """The start that a template is, and `spec` with what it decides. One with a memory of its own decides as a snapshot
    does, but begins a tree of its own."""
    if not isinstance(template, ProjectTemplate):
        start = Start(template.id, template.name, template.id, template.layers, defaults=template.defaults)
        return start, spec
    start = Start(template.id, template.name, template.build.id, defaults=template.defaults, build_id=template.build.id)
    memory = template.memory
    if memory is None:
        return replace(start, layers=template.layers), spec
    # The variables of its processes are in the memory already; who logs in later has them from there, too.
    start = replace(start, source=Source(memory.id, memory.kind, memory.agent_token), defaults=GuestDefaults())
    return start, spec_of(memory, spec)


def of_snapshot(snapshot: Snapshot) -> Start:
    """The start that a snapshot is."""
    source = Source(snapshot.id, snapshot.kind, snapshot.agent_token)
    return Start(
        snapshot.template_id,
        snapshot.template_name,
        snapshot.id,
        source=source,
        head_id=snapshot.id,
        build_id=snapshot.build_id,
    )


def spec_of(snapshot: Snapshot, spec: SandboxSpec) -> SandboxSpec:
    """`spec` with what the snapshot decides."""
    if snapshot.kind is SaveKind.MEMORY:
        return replace(spec, runtime=snapshot.runtime, resources=snapshot.resources)
    return replace(spec, resources=replace(spec.resources, disk_mib=snapshot.resources.disk_mib))
