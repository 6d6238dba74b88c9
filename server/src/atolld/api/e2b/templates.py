"""Templates: those of the project, and the machine's own. Lists, one, what an alias stands for, publishing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Query, Response

from atolld.api.e2b.buildrequests import UpdateTemplate
from atolld.api.e2b.templatenames import DEFAULT_TAG, own_ref, shown_names
from atolld.api.e2b.templateviews import AliasView, TemplateView, TemplateWithBuilds, UpdatedTemplate
from atolld.api.services import Caller, Services, Use
from atolld.control.projecttemplates import ProjectTemplate
from atolld.control.templates import Template
from atolld.core.defaults import GuestDefaults
from atolld.core.project import Principal
from atolld.core.template import TemplateRecord
from atolld.foundation.errors import FailedPrecondition, InvalidArgument, NotFound

router = APIRouter(tags=["templates"])

# Before the place in the list of the machine's own, which follow the project's.
_OWN = "own-"

Limit = Annotated[int, Query(ge=1, le=100)]
NextToken = Annotated[str | None, Query(max_length=512)]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a template to build on. `pinned`: a name that means it for ever; `own`: the machine's."""

    pinned: str
    own: bool
    defaults: GuestDefaults
    start_command: str | None = None
    ready_command: str | None = None


@router.get("/templates")
async def list_templates(use: Use, caller: Caller) -> list[TemplateView]:
    """The project's templates, newest first, and the machine's own."""
    found: list[TemplateView] = []
    cursor: str | None = None
    while True:
        page, cursor = await _page(use, caller, 100, cursor)
        found += page
        if cursor is None:
            return found


@router.get("/v2/templates")
async def list_templates_v2(
    use: Use, caller: Caller, response: Response, limit: Limit = 100, nextToken: NextToken = None
) -> list[TemplateView]:
    """A page of them; `x-next-token` is the `nextToken` of the next one, absent on the last."""
    page, cursor = await _page(use, caller, limit, nextToken)
    if cursor is not None:
        response.headers["x-next-token"] = cursor
    return page


@router.get("/default-templates")
async def default_templates(use: Use, caller: Caller) -> list[TemplateView]:
    """The machine's own templates."""
    return [TemplateView.of_machine(template) for template in await use.templates.list(caller.project_id)]


@router.get("/templates/aliases/{alias}")
async def get_alias(alias: str, use: Use, caller: Caller) -> AliasView:
    """Whether a template of that name is there; the project's own also before a build of it is ready."""
    try:
        record = await owned_template(use, caller, unquote(alias))
    except (InvalidArgument, NotFound):
        template = await find_template(use, caller, unquote(alias))
        return AliasView(templateID=template.id, public=True)
    return AliasView(templateID=record.id, public=record.public)


@router.get("/templates/{id}")
async def get_template(
    id: str, use: Use, caller: Caller, response: Response, limit: Limit = 100, nextToken: NextToken = None
) -> TemplateWithBuilds:
    """One template with a page of its builds, newest first; `x-next-token` as in lists."""
    try:
        record = await owned_template(use, caller, unquote(id))
    except (InvalidArgument, NotFound):
        return TemplateWithBuilds.with_machine_build(await _machine_template(use, caller, unquote(id)))
    outline = await use.template_records.outline(record)
    page = await use.template_records.builds(caller.project_id, record.id, limit=limit, cursor=nextToken)
    if page.next_cursor is not None:
        response.headers["x-next-token"] = page.next_cursor
    return TemplateWithBuilds.with_builds(record, outline, list(page.items), await namespace_of(use, caller))


@router.patch("/templates/{id}")
async def update_template(id: str, body: UpdateTemplate, use: Use, caller: Caller) -> Response:
    """Make a template public, or the project's alone again (deprecated by E2B)."""
    await _update(use, caller, unquote(id), body)
    return Response(content="{}", media_type="application/json")


@router.patch("/v2/templates/{id}")
async def update_template_v2(id: str, body: UpdateTemplate, use: Use, caller: Caller) -> UpdatedTemplate:
    """Make a template public, so that every project can start from it by the name that is told, or private again."""
    record = await _update(use, caller, unquote(id), body)
    return UpdatedTemplate(names=shown_names(record.name, await namespace_of(use, caller)))


async def owned_template(use: Services, caller: Principal, text: str) -> TemplateRecord:
    """The project's own template that `text` names by its id or name, whatever the tag.

    Raises InvalidArgument when it can be no name, or is another project's; NotFound.
    """
    ref = own_ref(text, await namespace_of(use, caller))
    return await use.template_records.get(caller.project_id, ref.name)


async def find_template(use: Services, caller: Principal, text: str) -> Template:
    """The version that `text` names: as `Templates.get`, in any case, and with the project's own name before it.

    Raises NotFound.
    """
    wanted = text.strip().lower()
    space, slash, rest = wanted.partition("/")
    names = [wanted]
    if slash and space == await namespace_of(use, caller):
        # So the machine's own are called, too.
        names.append(rest)
    for name in names:
        try:
            return await use.templates.get(caller.project_id, name)
        except (InvalidArgument, NotFound) as error:
            told = error.message
    try:
        await owned_template(use, caller, text)
    except (InvalidArgument, NotFound):
        known = ", ".join(one.name for one in await use.templates.list(caller.project_id))
        raise NotFound(f"template '{text[:80]}' not found (known: {known or 'none'})") from None
    # It is the version that is not there.
    raise NotFound(f"template '{text[:80]}' not found: {told}")


async def find_version(use: Services, caller: Principal, text: str) -> Version:
    """The version that `text` names, to build on. Raises NotFound."""
    template = await find_template(use, caller, text)
    if isinstance(template, ProjectTemplate):
        build = template.build
        return Version(build.id, False, template.defaults, build.start_command, build.ready_command)
    own = any(template.id == one.id for one in await use.templates.list(caller.project_id))
    return Version(template.id if own else template.name, own, template.defaults)


async def machine_version(use: Services, caller: Principal, name: str) -> Version:
    """The machine's own template `name`, to build on, also when the project has one that is called the same.

    Raises NotFound.
    """
    template = await _machine_template(use, caller, name)
    return Version(template.id, True, template.defaults)


async def namespace_of(use: Services, caller: Principal) -> str:
    """The caller's project, as it stands before the names of what is the project's own."""
    return (await use.projects.get(caller.project_id)).name.lower()


async def _page(
    use: Services, caller: Principal, limit: int, cursor: str | None
) -> tuple[list[TemplateView], str | None]:
    found: list[TemplateView] = []
    after = 0
    if cursor is None or not cursor.startswith(_OWN):
        namespace = await namespace_of(use, caller)
        page = await use.template_records.list(caller.project_id, limit=limit, cursor=cursor)
        found = [TemplateView.of(one.record, one.outline, namespace) for one in page.items]
        if page.next_cursor is not None:
            return found, page.next_cursor
    else:
        place = cursor.removeprefix(_OWN)
        if not (place.isascii() and place.isdigit()):
            raise InvalidArgument(f"nextToken is {cursor[:80]!r}, which no list has returned")
        after = int(place[:9])
    own = list(await use.templates.list(caller.project_id))
    taken = own[after : after + limit - len(found)]
    end = after + len(taken)
    found += [TemplateView.of_machine(template) for template in taken]
    return found, f"{_OWN}{end}" if end < len(own) else None


async def _machine_template(use: Services, caller: Principal, text: str) -> Template:
    wanted = text.strip().lower().removesuffix(f":{DEFAULT_TAG}")
    wanted = wanted.removeprefix(f"{await namespace_of(use, caller)}/")
    known = await use.templates.list(caller.project_id)
    found = next((template for template in known if wanted in (template.name, template.id)), None)
    if found is None:
        raise NotFound(f"template '{text[:80]}' not found")
    return found


async def _update(use: Services, caller: Principal, text: str, body: UpdateTemplate) -> TemplateRecord:
    try:
        record = await owned_template(use, caller, text)
    except NotFound:
        template = await find_template(use, caller, text)
        raise FailedPrecondition(
            f"template {template.name!r} is not the project's own: it cannot be changed here"
        ) from None
    if body.public is None:
        return record
    return await use.template_records.set_public(caller.project_id, record.id, body.public)
