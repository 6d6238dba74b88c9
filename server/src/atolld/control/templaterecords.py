"""Templates as their owners see them: lists, builds, who may use them, and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atolld.control.cursors import bad_cursor, check_limit, decode_place, encode_place
from atolld.core.template import Build, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG, parse_template_ref
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, is_build_id, is_template_id
from atolld.storage.templatestore import (
    BuildPosition,
    Outline,
    TemplatePosition,
    TemplateQuery,
    TemplateRecordStore,
)


@dataclass(frozen=True, slots=True)
class ListedTemplate:
    """A template in a list."""

    record: TemplateRecord
    outline: Outline


@dataclass(frozen=True, slots=True)
class TemplatePage:
    """Templates, newest first, and where to go on (None: that was all)."""

    items: Sequence[ListedTemplate]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class BuildPage:
    """Builds, newest first, and where to go on (None: that was all)."""

    items: Sequence[Build]
    next_cursor: str | None


class TemplateRecords:
    """The templates that projects have built. Names are `name`, `<project>/name` or an id, without a tag."""

    def __init__(self, store: TemplateRecordStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # Called with builds that were going on, or waited, when their template was deleted; and when something that
        # was deleted may be removed.
        self.on_cancelled: Callable[[Sequence[BuildId]], None] = lambda _: None
        self.on_deleted: Callable[[], None] = lambda: None

    async def get(self, project_id: ProjectId, name: str) -> TemplateRecord:
        """The project's own, hidden ones too. Raises InvalidArgument, NotFound."""
        found = await self.find(project_id, name)
        if found is None or found.project_id != project_id:
            raise NotFound(f"this project has no template {name[:200]!r}")
        return found

    async def visible(self, project_id: ProjectId, name: str) -> TemplateRecord:
        """As `get`, or a public one of another project. Raises InvalidArgument, NotFound."""
        found = await self.find(project_id, name)
        if found is None or (found.project_id != project_id and not found.public):
            raise NotFound(f"there is no template {name[:200]!r}")
        return found

    async def find(self, project_id: ProjectId, name: str) -> TemplateRecord | None:
        """Of whichever project; that it is there must not be told to others unless it is public.

        Raises InvalidArgument.
        """
        ref = parse_template_ref(name)
        if ref.tag != DEFAULT_TAG:
            raise InvalidArgument(f"{name[:200]!r} names a version; write the template's name without {ref.tag!r}")
        if ref.template_id is not None:
            return await self._store.find(ref.template_id)
        if ref.project is not None:
            return await self._store.by_path(ref.project, ref.name)
        return await self._store.by_name(project_id, ref.name)

    async def list(
        self, project_id: ProjectId, *, limit: int = 100, cursor: str | None = None, hidden: bool = False
    ) -> TemplatePage:
        """The project's own, newest first; with `hidden`, also what sandboxes' own definitions have built.

        Raises InvalidArgument on a limit outside 1 to 100 or a cursor that is none of ours.
        """
        check_limit(limit)
        after = None
        if cursor:
            created_at, id = decode_place(cursor)
            if not is_template_id(id):
                raise bad_cursor(cursor)
            after = TemplatePosition(created_at, TemplateId(id))
        found = await self._store.list(TemplateQuery(project_id, hidden=hidden, limit=limit + 1, after=after))
        page = found[:limit]
        outlines = await self._store.outlines([one.id for one in page])
        more = encode_place(page[-1].created_at, page[-1].id) if len(found) > limit else None
        # One that was deleted between the two questions is left out.
        items = [ListedTemplate(one, outlines[one.id]) for one in page if one.id in outlines]
        return TemplatePage(items, more)

    async def outline(self, record: TemplateRecord) -> Outline:
        """What a list would say of it. Raises NotFound when it was deleted meanwhile."""
        found = await self._store.outlines([record.id])
        if record.id not in found:
            raise NotFound(f"template {record.name!r} was deleted")
        return found[record.id]

    async def set_public(self, project_id: ProjectId, name: str, public: bool) -> TemplateRecord:
        """Whether other projects may start from it, as `<project>/<name>`.

        Raises InvalidArgument, NotFound, FailedPrecondition for a hidden one.
        """
        record = await self.get(project_id, name)
        return await self._store.set_public(record.id, public, self._clock.now())

    async def delete(self, project_id: ProjectId, name: str) -> None:
        """Nobody can start from it any more, and its name is free; builds that go on are cancelled. Its layers and
        memories go when no sandbox and no snapshot that began with it is left. Raises InvalidArgument, NotFound."""
        record = await self.get(project_id, name)
        cancelled = await self._store.delete(record.id, self._clock.now())
        crash_point("template.after_deleted")
        if cancelled:
            self.on_cancelled(cancelled)
        self.on_deleted()

    async def builds(
        self, project_id: ProjectId, name: str, *, limit: int = 100, cursor: str | None = None
    ) -> BuildPage:
        """All builds of a template of the project, or of a public one, newest first. Raises as `list`, NotFound."""
        check_limit(limit)
        record = await self.visible(project_id, name)
        after = None
        if cursor:
            created_at, id = decode_place(cursor)
            if not is_build_id(id):
                raise bad_cursor(cursor)
            after = BuildPosition(created_at, BuildId(id))
        found = await self._store.builds(record.id, limit=limit + 1, after=after)
        page = found[:limit]
        return BuildPage(page, encode_place(page[-1].created_at, page[-1].id) if len(found) > limit else None)

    async def delete_build(self, project_id: ProjectId, name: str, build_id: BuildId) -> None:
        """Delete one version, as `delete` does all of them.

        Raises InvalidArgument, NotFound, FailedPrecondition while a tag means it or it has not ended.
        """
        record = await self.get(project_id, name)
        build = await self._store.build(build_id)
        if build is None or build.template_id != record.id:
            raise NotFound(f"template {record.name!r} has no build {build_id[:80]!r}")
        await self._store.delete_build(build_id, self._clock.now())
        self.on_deleted()
