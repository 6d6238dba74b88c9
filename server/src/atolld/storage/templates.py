"""Templates of projects in SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, tuple_, update

from atolld.core.build import BuildState, Built, Failure
from atolld.core.template import Assignment, Build, Tag, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG
from atolld.foundation.aio import spawn
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.ids import BuildId, ProjectId, TemplateId
from atolld.storage import builds, surplus, tagging
from atolld.storage.admission import admit_build
from atolld.storage.database import Database
from atolld.storage.outlines import outlines
from atolld.storage.saves import finish_snapshot
from atolld.storage.schema import projects, template_assignments, template_builds, template_tags, templates
from atolld.storage.templaterows import (
    build_from_row,
    built_to_json,
    failure_to_json,
    template_from_row,
    template_to_row,
)
from atolld.storage.templatestore import BuildPosition, Memory, Outline, TemplateQuery

T = TypeVar("T")

DELETED = "the template was deleted"
_UNFINISHED = (BuildState.WAITING.value, BuildState.BUILDING.value)


class SqlTemplates:
    """Implements `TemplateRecordStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def changes(self) -> int:
        """See `TemplateRecordStore.changes`."""
        return self._changes

    def listen(self, listener: Callable[[], None]) -> None:
        """See `TemplateRecordStore.listen`."""
        self._listeners.append(listener)

    async def request(
        self, draft: TemplateRecord, build: Build, max_versions: int | None = None
    ) -> tuple[TemplateRecord, Build]:
        """See `TemplateRecordStore.request`."""

        def work(connection: Connection) -> tuple[TemplateRecord, Build]:
            # The project's row is locked, so that of two at once the second sees the template of the first.
            admit_build(connection, draft.project_id, max_versions)
            row = connection.execute(
                select(templates).where(templates.c.project_id == draft.project_id, templates.c.name == draft.name)
            ).first()
            if row is None:
                connection.execute(insert(templates).values(template_to_row(draft)))
            id = draft.id if row is None else TemplateId(row.id)
            stored = builds.insert_build(connection, replace(build, template_id=id))
            return template_from_row(builds.hold_template(connection, id)), stored

        return await self._write(work)

    async def insert_build(self, build: Build) -> Build:
        """See `TemplateRecordStore.insert_build`."""
        return await self._write(lambda c: builds.insert_build(c, build))

    async def find(self, id: TemplateId) -> TemplateRecord | None:
        """See `TemplateRecordStore.find`."""
        query = select(templates).where(templates.c.id == id, templates.c.deleted_at.is_(None))
        row = await self._database.read(lambda c: c.execute(query).first())
        return None if row is None else template_from_row(row)

    async def by_name(self, project_id: ProjectId, name: str) -> TemplateRecord | None:
        """See `TemplateRecordStore.by_name`."""
        query = select(templates).where(templates.c.project_id == project_id, templates.c.name == name)
        row = await self._database.read(lambda c: c.execute(query).first())
        return None if row is None else template_from_row(row)

    async def by_path(self, project_name: str, name: str) -> TemplateRecord | None:
        """See `TemplateRecordStore.by_path`."""
        query = (
            select(templates)
            .join(projects, projects.c.id == templates.c.project_id)
            .where(func.lower(projects.c.name) == project_name.lower(), templates.c.name == name)
            .order_by(projects.c.name)
        )
        row = await self._database.read(lambda c: c.execute(query).first())
        return None if row is None else template_from_row(row)

    async def list(self, query: TemplateQuery) -> Sequence[TemplateRecord]:
        """See `TemplateRecordStore.list`."""
        table = templates.c
        statement = (
            select(templates)
            .where(table.project_id == query.project_id, table.deleted_at.is_(None))
            .order_by(table.created_at.desc(), table.id.desc())
            .limit(query.limit)
        )
        if not query.hidden:
            statement = statement.where(~table.hidden)
        if query.after is not None:
            place = tuple_(table.created_at, table.id)
            statement = statement.where(place < tuple_(query.after.created_at, query.after.id))
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return [template_from_row(row) for row in rows]

    async def outlines(self, ids: Sequence[TemplateId]) -> Mapping[TemplateId, Outline]:
        """See `TemplateRecordStore.outlines`."""
        return await self._database.read(lambda c: outlines(c, ids))

    async def touch(self, id: TemplateId, now: float) -> None:
        """See `TemplateRecordStore.touch`."""
        await self._write(lambda c: builds.touch(c, id, now))

    async def set_public(self, id: TemplateId, public: bool, now: float) -> TemplateRecord:
        """See `TemplateRecordStore.set_public`."""

        def work(connection: Connection) -> TemplateRecord:
            row = builds.hold_template(connection, id)
            if row.hidden and public:
                raise FailedPrecondition(
                    "what a sandbox's own definition has built is of its project only; build a template with a name"
                )
            if row.public != public:
                change = update(templates).where(templates.c.id == id).values(public=public, updated_at=now)
                connection.execute(change)
            return template_from_row(builds.hold_template(connection, id))

        return await self._write(work)

    async def delete(self, id: TemplateId, now: float) -> Sequence[BuildId]:
        """See `TemplateRecordStore.delete`."""
        mine = and_(template_builds.c.template_id == id, template_builds.c.deleted_at.is_(None))

        def work(connection: Connection) -> list[BuildId]:
            builds.hold_template(connection, id)
            unfinished = connection.execute(
                select(template_builds.c.id)
                .where(mine, template_builds.c.state.in_(_UNFINISHED))
                .order_by(template_builds.c.created_at, template_builds.c.id)
            ).scalars()
            ended = [BuildId(build_id) for build_id in unfinished]
            failure = failure_to_json(Failure(DELETED))
            for build_id in ended:
                builds.move(connection, build_id, BuildState.FAILED, failure=failure, finished_at=now)
            connection.execute(update(template_builds).where(mine).values(deleted_at=now))
            connection.execute(delete(template_tags).where(template_tags.c.template_id == id))
            connection.execute(delete(template_assignments).where(template_assignments.c.template_id == id))
            connection.execute(
                update(templates).where(templates.c.id == id).values(name=None, public=False, deleted_at=now)
            )
            builds.remove_template_without_builds(connection, id)
            return ended

        return await self._write(work)

    async def begin(
        self, id: BuildId, start_command: str | None, ready_command: str | None, max_versions: int | None = None
    ) -> Build:
        """See `TemplateRecordStore.begin`."""
        commands = {"start_command": start_command, "ready_command": ready_command}

        def work(connection: Connection) -> Build:
            waiting = builds.get_build(connection, id, deleted=False)
            if waiting is not None:
                admit_build(connection, waiting.project_id, max_versions)
            return builds.move(connection, id, BuildState.BUILDING, **commands)

        return await self._write(work)

    async def finish(self, id: BuildId, built: Built, now: float, memory: Memory | None = None) -> Build:
        """See `TemplateRecordStore.finish`."""
        values = {
            "built": built_to_json(built),
            "save_id": None if memory is None else memory.id,
            "finished_at": now,
        }

        def work(connection: Connection) -> Build:
            build = builds.move(connection, id, BuildState.READY, **values)
            if memory is not None:
                finish_snapshot(connection, memory.id, memory.saved)
            tagging.assign_newer(connection, build.template_id, build.tags or (DEFAULT_TAG,), id, now)
            builds.touch(connection, build.template_id, now)
            return build

        return await self._write(work)

    async def fail(self, id: BuildId, failure: Failure, now: float) -> Build:
        """See `TemplateRecordStore.fail`."""
        values = {"failure": failure_to_json(failure), "finished_at": now}
        return await self._write(lambda c: builds.move(c, id, BuildState.FAILED, **values))

    async def build(self, id: BuildId, *, deleted: bool = False) -> Build | None:
        """See `TemplateRecordStore.build`."""
        return await self._database.read(lambda c: builds.get_build(c, id, deleted))

    async def builds(
        self, template_id: TemplateId, *, limit: int = 100, after: BuildPosition | None = None
    ) -> Sequence[Build]:
        """See `TemplateRecordStore.builds`."""
        table = template_builds.c
        query = (
            select(template_builds)
            .where(table.template_id == template_id, table.deleted_at.is_(None))
            .order_by(table.created_at.desc(), table.id.desc())
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(table.created_at, table.id) < tuple_(after.created_at, after.id))
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [build_from_row(row) for row in rows]

    async def resolve(self, template_id: TemplateId, tag: str) -> Build | None:
        """See `TemplateRecordStore.resolve`."""
        return await self._database.read(lambda c: builds.resolve(c, template_id, tag))

    async def delete_build(self, id: BuildId, now: float) -> None:
        """See `TemplateRecordStore.delete_build`."""
        await self._write(lambda c: builds.delete_build(c, id, now))

    async def delete_surplus(self, keep: int, now: float) -> Sequence[BuildId]:
        """See `TemplateRecordStore.delete_surplus`."""
        # Mostly there is none, and a write would make everybody read anew what they know of templates.
        if not await self._database.read(lambda c: surplus.find(c, keep)):
            return []
        return await self._write(lambda c: surplus.delete(c, keep, now))

    async def interrupted(self, waiting_before: float) -> Sequence[Build]:
        """See `TemplateRecordStore.interrupted`."""
        table = template_builds.c
        building = table.state == BuildState.BUILDING.value
        waiting = and_(table.state == BuildState.WAITING.value, table.created_at < waiting_before)
        query = (
            select(template_builds)
            .where(table.deleted_at.is_(None), or_(building, waiting))
            .order_by(table.created_at, table.id)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [build_from_row(row) for row in rows]

    async def pinned(self) -> Sequence[Build]:
        """See `TemplateRecordStore.pinned`."""
        ready = template_builds.c.state == BuildState.READY.value
        query = select(template_builds).where(ready).order_by(template_builds.c.created_at, template_builds.c.id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [build_from_row(row) for row in rows]

    async def removable(self) -> Sequence[BuildId]:
        """See `TemplateRecordStore.removable`."""
        query = select(template_builds.c.id).where(template_builds.c.deleted_at.is_not(None), ~builds.needed())
        rows = await self._database.read(lambda c: c.execute(query.order_by(template_builds.c.deleted_at)).all())
        return [BuildId(row.id) for row in rows]

    async def remove(self, id: BuildId) -> None:
        """See `TemplateRecordStore.remove`."""
        await self._write(lambda c: builds.remove(c, id))

    async def unused(self, before: float) -> Sequence[TemplateId]:
        """See `TemplateRecordStore.unused`."""
        return await self._database.read(lambda c: builds.unused(c, before))

    async def assign(
        self, template_id: TemplateId, tags: Sequence[str], build_id: BuildId, now: float
    ) -> Sequence[Tag]:
        """See `TemplateRecordStore.assign`."""
        return await self._write(lambda c: tagging.assign(c, template_id, tags, build_id, now))

    async def untag(self, template_id: TemplateId, tags: Sequence[str]) -> None:
        """See `TemplateRecordStore.untag`."""
        await self._write(lambda c: tagging.untag(c, template_id, tags))

    async def tags(self, template_id: TemplateId) -> Sequence[Tag]:
        """See `TemplateRecordStore.tags`."""
        return await self._database.read(lambda c: tagging.list_tags(c, template_id))

    async def history(
        self, template_id: TemplateId, tag: str, *, limit: int = 100, before: int | None = None
    ) -> Sequence[Assignment]:
        """See `TemplateRecordStore.history`."""
        return await self._database.read(lambda c: tagging.history(c, template_id, tag, limit, before))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        async def write() -> T:
            try:
                return await self._database.write(work)
            finally:
                self._changes += 1
                for listener in self._listeners:
                    listener()

        # A write goes on although its caller is cancelled, and is counted when it is done.
        return await asyncio.shield(spawn(write(), name="write-template", report=False))
