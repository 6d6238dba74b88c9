"""Tags: names for versions of a template, which can be given to another version at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atolld.control.cursors import bad_cursor, check_limit, decode_place, encode_place
from atolld.control.templaterecords import TemplateRecords
from atolld.core.template import Assignment, Tag
from atolld.core.templatenames import DEFAULT_TAG, check_tag, check_tags, parse_template_ref
from atolld.foundation.clock import Clock
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, ProjectId, is_build_id
from atolld.storage.templatestore import TemplateRecordStore


@dataclass(frozen=True, slots=True)
class History:
    """Times that a tag was given to a build, newest first, and where to go on (None: that was all)."""

    items: Sequence[Assignment]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TagGroup:
    """A tag with the newest of its history; `has_more`: there is more of it."""

    tag: Tag
    assignments: Sequence[Assignment]
    has_more: bool


class TemplateTags:
    """The tags of templates. Those of a public template can be read by every project, and changed by its own.

    Names of templates are as in `TemplateRecords`. Every method raises InvalidArgument and NotFound.
    """

    def __init__(self, store: TemplateRecordStore, records: TemplateRecords, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._clock = clock

    async def list(self, project_id: ProjectId, name: str) -> Sequence[Tag]:
        """By name."""
        return await self._store.tags((await self._records.visible(project_id, name)).id)

    async def exists(self, project_id: ProjectId, name: str, tag: str) -> bool:
        """Whether the template has that tag."""
        check_tag(tag)
        return any(one.tag == tag for one in await self.list(project_id, name))

    async def assign(self, project_id: ProjectId, target: str, tags: Sequence[str]) -> tuple[BuildId, Sequence[Tag]]:
        """Give tags to the version that `target` means: `name` (that is `name:default`), `name:tag`, `name:<build>`, or
        a build's id. Returns its build, and the tags.

        Raises FailedPrecondition when the build is not ready.
        """
        wanted = check_tags(tuple(tags))
        if not wanted:
            raise InvalidArgument("tags is empty: name at least one")
        if is_build_id(target):
            build = await self._store.build(BuildId(target))
            record = None if build is None else await self._store.find(build.template_id)
            if build is None or record is None or record.project_id != project_id:
                raise NotFound(f"this project has no build {target}")
            build_id = build.id
        else:
            ref = parse_template_ref(target)
            record = await self._records.get(project_id, target.partition(":")[0])
            if ref.build_id is not None:
                build_id = ref.build_id
            else:
                found = await self._store.resolve(record.id, ref.tag)
                if found is None:
                    raise NotFound(f"template {record.name!r} has no tag {ref.tag!r}")
                build_id = found.id
        return build_id, await self._store.assign(record.id, wanted, build_id, self._clock.now())

    async def remove(self, project_id: ProjectId, name: str, tags: Sequence[str]) -> None:
        """All of these, or none when one is not there; what they mean stays.

        Without `default` the template's plain name means nothing any more.
        """
        if not tags:
            raise InvalidArgument("tags is empty: name at least one")
        record = await self._records.get(project_id, name)
        await self._store.untag(record.id, [check_tag(tag) for tag in dict.fromkeys(tags)])

    async def history(
        self, project_id: ProjectId, name: str, tag: str = DEFAULT_TAG, *, limit: int = 100, cursor: str | None = None
    ) -> History:
        """Which builds a tag was given to. Raises NotFound when the template has no such tag."""
        check_limit(limit)
        record = await self._records.visible(project_id, name)
        before = None if not cursor else _sequence(cursor)
        found = await self._store.history(record.id, check_tag(tag), limit=limit + 1, before=before)
        if not found and before is None:
            raise NotFound(f"template {record.name!r} has no tag {tag!r}")
        page = found[:limit]
        more = encode_place(page[-1].assigned_at, str(page[-1].sequence)) if len(found) > limit else None
        return History(page, more)

    async def groups(self, project_id: ProjectId, name: str, assignments: int = 5) -> Sequence[TagGroup]:
        """Every tag, by name, with at most so many of the newest entries of its history."""
        check_limit(assignments)
        record = await self._records.visible(project_id, name)
        groups: list[TagGroup] = []
        for tag in await self._store.tags(record.id):
            found = await self._store.history(record.id, tag.tag, limit=assignments + 1)
            groups.append(TagGroup(tag, found[:assignments], len(found) > assignments))
        return groups


def _sequence(cursor: str) -> int:
    _, text = decode_place(cursor)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_cursor(cursor)
    return int(text)
