"""What projects have built, as something to start from: a name, an id or a build's id becomes one version of it.

Every create asks, also for names that no project has. What was found is kept in memory until the next write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atolld.core.build import Built
from atolld.core.defaults import GuestDefaults
from atolld.core.sandbox import Resources
from atolld.core.snapshot import Snapshot, SnapshotRole, SnapshotState
from atolld.core.template import Build, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG, TemplateRef, parse_template_ref
from atolld.foundation.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, is_build_id
from atolld.storage.store import SnapshotStore
from atolld.storage.templatestore import TemplateRecordStore

MAX_KEPT = 10_000

LayerRoot = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class ProjectTemplate:
    """One version of a template that a project has built; it can be used as any `Template`.

    `name`: `<project>/<name>` where another project built it. `layers`: root directories, the lowest first. `memory`:
    what its sandboxes go on from; None: they boot.
    """

    record: TemplateRecord
    build: Build
    built: Built
    name: str
    layers: tuple[Path, ...]
    memory: Snapshot | None = None

    @property
    def id(self) -> TemplateId:
        """The same for all its versions."""
        return self.record.id

    @property
    def built_at(self) -> float:
        """Unix seconds."""
        return self.build.finished_at or self.build.created_at

    @property
    def size_bytes(self) -> int:
        """Of its layers on disk."""
        return self.built.size_bytes

    @property
    def resources(self) -> Resources:
        """Bounds of a sandbox that asks for none; with `memory`, of every one."""
        return self.build.spec.resources

    @property
    def runtime(self) -> str:
        """As `resources`."""
        return self.build.spec.runtime

    @property
    def defaults(self) -> GuestDefaults:
        """How it wants to be used."""
        return self.built.defaults


class ProjectTemplates:
    """Finds them. `layer_root`: where the files of a layer are, by digest; it raises NotFound."""

    def __init__(self, store: TemplateRecordStore, snapshots: SnapshotStore, layer_root: LayerRoot) -> None:
        self._store = store
        self._snapshots = snapshots
        self._layer_root = layer_root
        self._kept: dict[tuple[ProjectId, str, bool], ProjectTemplate | NotFound | None] = {}
        self._kept_at = -1

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever what a name means may have changed."""
        self._store.listen(listener)

    async def own(self, project_id: ProjectId, name: str) -> ProjectTemplate | None:
        """The project's own version that `name` means; None when it has no template of that name.

        Raises NotFound when it has, but no such tag or build; FailedPrecondition when its files are gone.
        """
        return await self._found(project_id, name, own=True)

    async def public(self, project_id: ProjectId, name: str) -> ProjectTemplate | None:
        """As `own`, of what other projects made public: by `<project>/name[:tag]`, a template's id or a build's id."""
        return await self._found(project_id, name, own=False)

    async def of_build(self, id: BuildId) -> Built | None:
        """What a build made, also when it was deleted and something still needs it; None when it is gone."""
        build = await self._store.build(id, deleted=True)
        return None if build is None else build.built

    async def _found(self, project_id: ProjectId, name: str, *, own: bool) -> ProjectTemplate | None:
        key = (project_id, name, own)
        if self._kept_at != self._store.changes or len(self._kept) > MAX_KEPT:
            self._kept.clear()
            self._kept_at = self._store.changes
        if key not in self._kept:
            before = self._store.changes
            found: ProjectTemplate | NotFound | None
            try:
                found = await self._look_up(project_id, name, own)
            except NotFound as error:
                found = error
            if before != self._kept_at or before != self._store.changes:
                # Something was written meanwhile: good enough for this caller, but not to be kept.
                return _told(found)
            self._kept[key] = found
        return _told(self._kept[key])

    async def _look_up(self, project_id: ProjectId, name: str, own: bool) -> ProjectTemplate | None:
        if is_build_id(name):
            return await self._by_build(project_id, BuildId(name), own)
        try:
            ref = parse_template_ref(name)
        except InvalidArgument:
            # It may be the reference of an image.
            return None
        record = await self._record(project_id, ref)
        if record is None or not _usable(record, project_id, own):
            return None
        build = await self._store.resolve(record.id, ref.tag)
        if build is None:
            raise await self._no_version(record, ref)
        return await self._whole(project_id, record, build, ref.project)

    async def _record(self, project_id: ProjectId, ref: TemplateRef) -> TemplateRecord | None:
        if ref.template_id is not None:
            return await self._store.find(ref.template_id)
        if ref.project is not None:
            return await self._store.by_path(ref.project, ref.name)
        return await self._store.by_name(project_id, ref.name)

    async def _by_build(self, project_id: ProjectId, id: BuildId, own: bool) -> ProjectTemplate | None:
        build = await self._store.build(id)
        record = None if build is None else await self._store.find(build.template_id)
        if build is None or record is None or not _usable(record, project_id, own):
            return None
        if build.built is None:
            raise NotFound(f"build {id} of template {record.name!r} is {build.state.value}")
        return await self._whole(project_id, record, build, None)

    async def _whole(
        self, project_id: ProjectId, record: TemplateRecord, build: Build, project: str | None
    ) -> ProjectTemplate:
        if build.built is None:
            raise Internal(f"build {build.id} is {build.state.value}, but nothing is known of what it made")
        try:
            layers = tuple(map(self._layer_root, build.built.layers))
        except NotFound as error:
            raise FailedPrecondition(
                f"the files of template {record.name!r} are not there any more ({error.message}): build it again"
            ) from None
        memory = None
        if build.save_id is not None:
            memory = await self._snapshots.find(build.save_id)
            if memory is None or memory.role is not SnapshotRole.TEMPLATE or memory.state is not SnapshotState.READY:
                raise Internal(f"the memory of build {build.id} is not known any more: build it again")
        shown = record.name if project is None or record.project_id == project_id else f"{project}/{record.name}"
        return ProjectTemplate(record, build, build.built, shown, layers, memory)

    async def _no_version(self, record: TemplateRecord, ref: TemplateRef) -> NotFound:
        name = repr(record.name)
        if ref.build_id is not None:
            return NotFound(f"template {name} has no build {ref.build_id} that is ready")
        tags = ", ".join(tag.tag for tag in await self._store.tags(record.id))
        if ref.tag == DEFAULT_TAG and not tags:
            return NotFound(f"no build of template {name} is ready yet")
        return NotFound(f"template {name} has no tag {ref.tag!r} (it has: {tags or 'none'})")


def _usable(record: TemplateRecord, project_id: ProjectId, own: bool) -> bool:
    mine = record.project_id == project_id
    return mine if own else record.public and not mine


def _told(found: ProjectTemplate | NotFound | None) -> ProjectTemplate | None:
    if isinstance(found, NotFound):
        # A new one each time: a raised error keeps the frames it went through.
        raise NotFound(found.message)
    return found
