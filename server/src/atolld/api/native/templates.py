"""`/v1/templates`: what sandboxes can be created from, its versions and its tags."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from atolld.api.native.build_schemas import (
    AssignTags,
    BuildPage,
    BuildView,
    ChangeTemplate,
    RemoveTags,
    TagView,
    TemplatePage,
    TemplateView,
)
from atolld.api.native.paths import EncodedRoute
from atolld.api.native.schemas import Items
from atolld.api.services import Caller, Services, Use
from atolld.core.project import Principal
from atolld.core.template import TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, is_build_id

# `{name}` may be `<project>/<name>`, with its `/` sent as `%2F`.
router = APIRouter(tags=["templates"], route_class=EncodedRoute)

Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(description="1 to 100.")]


@router.get("/v1/templates")
async def list_templates(use: Use, caller: Caller, limit: Limit = 100, cursor: Cursor = None) -> TemplatePage:
    """Templates a sandbox can be created from: the machine's own, and those that the project has built."""
    page = await use.template_records.list(caller.project_id, limit=limit, cursor=cursor)
    own = [TemplateView.of(one.record, one.outline.tags, one.outline.current) for one in page.items]
    machine = [] if cursor else await use.templates.list(caller.project_id)
    return TemplatePage(items=[*map(TemplateView.of_machine, machine), *own], next_cursor=page.next_cursor)


@router.get("/v1/templates/{name}")
async def get_template(name: str, use: Use, caller: Caller) -> TemplateView:
    """One template: the project's own by its name or id, another project's public one as `<project>/<name>`, or the
    machine's."""
    record = await _record(use, caller, name)
    if record is None:
        return TemplateView.of_machine(await use.templates.get(caller.project_id, name))
    return await _view(use, record)


@router.patch("/v1/templates/{name}")
async def change_template(name: str, body: ChangeTemplate, use: Use, caller: Caller) -> TemplateView:
    """Make a template of the project public or private."""
    if body.public is None:
        return await _view(use, await use.template_records.get(caller.project_id, name))
    return await _view(use, await use.template_records.set_public(caller.project_id, name, body.public))


@router.delete("/v1/templates/{name}", status_code=204)
async def delete_template(name: str, use: Use, caller: Caller) -> None:
    """Delete a template of the project with all its versions. Sandboxes and snapshots that began with it stay; what
    they need of it goes with the last of them."""
    await use.template_records.delete(caller.project_id, name)


@router.get("/v1/templates/{name}/builds")
async def list_builds(name: str, use: Use, caller: Caller, limit: Limit = 100, cursor: Cursor = None) -> BuildPage:
    """All builds of a template, newest first."""
    page = await use.template_records.builds(caller.project_id, name, limit=limit, cursor=cursor)
    return BuildPage(items=[BuildView.of(build) for build in page.items], next_cursor=page.next_cursor)


@router.delete("/v1/templates/{name}/versions/{build_id}", status_code=204)
async def delete_version(name: str, build_id: str, use: Use, caller: Caller) -> None:
    """Delete one version that no tag means."""
    if not is_build_id(build_id):
        raise NotFound(f"template {name[:80]!r} has no build {build_id[:80]!r}")
    await use.template_records.delete_build(caller.project_id, name, BuildId(build_id))


@router.get("/v1/templates/{name}/tags")
async def list_tags(name: str, use: Use, caller: Caller) -> Items[TagView]:
    """The tags of a template, by name."""
    return Items(items=[TagView.of(tag) for tag in await use.template_tags.list(caller.project_id, name)])


@router.post("/v1/templates/{name}/tags")
async def assign_tags(name: str, body: AssignTags, use: Use, caller: Caller) -> Items[TagView]:
    """Give tags to one version of a template, whichever they meant before."""
    if ":" in name:
        raise InvalidArgument(f"{name[:80]!r} names a version; say it as `build`")
    target = f"{name}:{body.build or DEFAULT_TAG}"
    _, tags = await use.template_tags.assign(caller.project_id, target, body.tags)
    return Items(items=[TagView.of(tag) for tag in tags])


@router.delete("/v1/templates/{name}/tags", status_code=204)
async def remove_tags(name: str, body: RemoveTags, use: Use, caller: Caller) -> None:
    """Remove tags of a template, all or none; the versions stay."""
    await use.template_tags.remove(caller.project_id, name, body.tags)


async def _record(use: Services, caller: Principal, name: str) -> TemplateRecord | None:
    try:
        return await use.template_records.visible(caller.project_id, name)
    except (InvalidArgument, NotFound):
        return None


async def _view(use: Services, record: TemplateRecord) -> TemplateView:
    outline = await use.template_records.outline(record)
    return TemplateView.of(record, outline.tags, outline.current)
