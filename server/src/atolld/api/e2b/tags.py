"""Tags of templates: which build a name with a tag means, and what it meant before."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Query
from pydantic import BaseModel

from atolld.api.e2b.buildrequests import AssignTags, RemoveTags
from atolld.api.e2b.templatenames import own_ref, tags_of
from atolld.api.e2b.templates import namespace_of, owned_template
from atolld.api.services import Caller, Services, Use
from atolld.control import templatetags
from atolld.core.project import Principal
from atolld.core.template import Assignment, Tag, TemplateRecord
from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import InvalidArgument

router = APIRouter(tags=["tags"])

_ASSIGNMENTS = uuid.UUID("3c0c7c57-6a1e-5b1f-8f0a-7b0a3a6c2f11")

TagText = Annotated[str, Query(min_length=1, max_length=256)]


class AssignedTags(BaseModel):
    """Tags, and the build that they mean now."""

    tags: list[str]
    buildID: str


class TagView(BaseModel):
    """A tag, the build it means, and since when."""

    tag: str
    buildID: str
    createdAt: str

    @staticmethod
    def of(tag: Tag) -> TagView:
        """The view of `tag`."""
        return TagView(tag=tag.tag, buildID=tag.build_id, createdAt=rfc3339(tag.assigned_at))


class TagCount(BaseModel):
    """How many tags a template has."""

    total: int


class TagExists(BaseModel):
    """Whether a template has a tag; `normalizedTag`: as it is kept."""

    exists: bool
    normalizedTag: str


class AssignmentView(BaseModel):
    """One time that a tag was given to a build."""

    assignmentID: str
    buildID: str
    assignedAt: str
    buildCreatedAt: str
    buildFinishedAt: str | None

    @staticmethod
    def of(record: TemplateRecord, assignment: Assignment) -> AssignmentView:
        """The view of an assignment of `record`."""
        finished = assignment.build_finished_at
        return AssignmentView(
            # Clients expect a UUID; the same assignment has the same one.
            assignmentID=str(uuid.uuid5(_ASSIGNMENTS, f"{record.id} {assignment.sequence}")),
            buildID=assignment.build_id,
            assignedAt=rfc3339(assignment.assigned_at),
            buildCreatedAt=rfc3339(assignment.build_created_at),
            buildFinishedAt=None if finished is None else rfc3339(finished),
        )


class Assignments(BaseModel):
    """A page of assignments, newest first."""

    data: list[AssignmentView]
    nextCursor: str | None


class TagGroup(BaseModel):
    """A tag with its newest assignments; `hasMore`: there are older ones."""

    tag: str
    assignments: list[AssignmentView]
    hasMore: bool

    @staticmethod
    def of(record: TemplateRecord, group: templatetags.TagGroup) -> TagGroup:
        """The view of a group of `record`."""
        assignments = [AssignmentView.of(record, one) for one in group.assignments]
        return TagGroup(tag=group.tag.tag, assignments=assignments, hasMore=group.has_more)


class TagGroups(BaseModel):
    """A page of tags with their assignments."""

    tags: list[TagGroup]
    nextCursor: str | None


@router.post("/templates/tags", status_code=201)
async def assign_tags(body: AssignTags, use: Use, caller: Caller) -> AssignedTags:
    """Let tags mean the build that `target` means, whichever they meant before."""
    tags = tags_of(body.tags)
    ref = own_ref(body.target, await namespace_of(use, caller))
    build_id, _ = await use.template_tags.assign(caller.project_id, f"{ref.name}:{ref.tag}", tags)
    return AssignedTags(tags=list(tags), buildID=build_id)


@router.delete("/templates/tags", status_code=204)
async def remove_tags(body: RemoveTags, use: Use, caller: Caller) -> None:
    """Let tags mean nothing any more, all or none; the builds stay."""
    tags = tags_of(body.tags)
    record = await owned_template(use, caller, body.name)
    await use.template_tags.remove(caller.project_id, record.id, tags)


@router.get("/templates/{id}/tags")
async def list_tags(id: str, use: Use, caller: Caller) -> list[TagView]:
    """The tags of a template, by name."""
    return [TagView.of(tag) for tag in await _tags(use, caller, id)]


@router.get("/templates/{space}/{name}/tags", include_in_schema=False)
async def list_tags_by_open_slash(space: str, name: str, use: Use, caller: Caller) -> list[TagView]:
    """As `list_tags`: clients of 2.21 send the slash of a name as it is."""
    return [TagView.of(tag) for tag in await _tags(use, caller, f"{space}/{name}")]


@router.get("/templates/{id}/tags/count")
async def count_tags(id: str, use: Use, caller: Caller) -> TagCount:
    """How many tags a template has."""
    return TagCount(total=len(await _tags(use, caller, id)))


@router.get("/templates/{id}/tags/exists")
async def tag_exists(id: str, tag: TagText, use: Use, caller: Caller) -> TagExists:
    """Whether a template has a tag."""
    (wanted,) = tags_of([tag])
    return TagExists(exists=wanted in [one.tag for one in await _tags(use, caller, id)], normalizedTag=wanted)


@router.get("/templates/{id}/tags/groups")
async def group_tags(
    id: str,
    use: Use,
    caller: Caller,
    assignmentLimit: Annotated[int, Query(ge=1, le=50)] = 6,
    tagsLimit: Annotated[int, Query(ge=1, le=100)] = 25,
    tagsCursor: Annotated[str | None, Query(max_length=256)] = None,
    search: Annotated[str | None, Query(max_length=256, description="Part of the tag.")] = None,
    sort: Literal["latest_asc", "latest_desc", "name_asc", "name_desc"] = "latest_desc",
) -> TagGroups:
    """A page of a template's tags, each with its newest assignments. `nextCursor` is the `tagsCursor` of the next."""
    record = await owned_template(use, caller, unquote(id))
    wanted = (search or "").strip().lower()
    found = await use.template_tags.groups(caller.project_id, record.id, assignmentLimit)
    groups = [group for group in found if wanted in group.tag.tag]
    latest = sort.startswith("latest")
    groups.sort(
        key=lambda group: (group.tag.assigned_at if latest else 0, group.tag.tag), reverse=sort.endswith("desc")
    )
    rest = _after(groups, tagsCursor)
    shown = [TagGroup.of(record, group) for group in rest[:tagsLimit]]
    return TagGroups(tags=shown, nextCursor=shown[-1].tag if len(rest) > tagsLimit else None)


@router.get("/templates/{id}/tags/{tag}/assignments")
async def list_assignments(
    id: str,
    tag: str,
    use: Use,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Assignments:
    """When a tag was given to which build, newest first. `nextCursor` is the `cursor` of the next page."""
    record = await owned_template(use, caller, unquote(id))
    (wanted,) = tags_of([unquote(tag)])
    page = await use.template_tags.history(caller.project_id, record.id, wanted, limit=limit, cursor=cursor)
    return Assignments(data=[AssignmentView.of(record, one) for one in page.items], nextCursor=page.next_cursor)


async def _tags(use: Services, caller: Principal, text: str) -> list[Tag]:
    record = await owned_template(use, caller, unquote(text))
    return list(await use.template_tags.list(caller.project_id, record.id))


def _after(groups: Sequence[templatetags.TagGroup], cursor: str | None) -> Sequence[templatetags.TagGroup]:
    if cursor is None:
        return groups
    place = next((index for index, group in enumerate(groups) if group.tag.tag == cursor), None)
    if place is None:
        raise InvalidArgument(f"tagsCursor is {cursor[:80]!r}, which no page has returned")
    return groups[place + 1 :]
