"""Builds of templates: asked for, started, followed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Query, Response

from atolld.api.e2b.buildrequests import RequestBuild, StartBuild
from atolld.api.e2b.buildviews import BuildLogEntry, BuildLogs, BuildStatusView, RequestedBuild, selected
from atolld.api.e2b.options import E2bOptions, Options
from atolld.api.e2b.plans import Ground, image_ground, plan_of, template_named
from atolld.api.e2b.registries import credentials_of
from atolld.api.e2b.templatenames import DEFAULT_TAG, new_name, shown_names
from atolld.api.e2b.templates import find_version, machine_version, namespace_of
from atolld.api.services import Caller, Services, Use
from atolld.api.streams import MAX_BODY_BYTES
from atolld.core.build import Base, BaseKind, BuildSpec, LogEntry
from atolld.core.project import Principal
from atolld.core.sandbox import Resources
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import BuildId, TemplateId
from atolld.foundation.units import MIB

router = APIRouter(tags=["templates"])

# Whole scripts stand in steps.
MAX_PLAN_BYTES = 4 * MIB
MAX_LINES = 100
_PAGE = 1000
_PLAN = re.compile(r"/v2/templates/[^/]+/builds/[^/]+")

Level = Annotated[Literal["debug", "info", "warn", "error"] | None, Query(description="And above.")]
Limit = Annotated[int, Query(ge=0, le=MAX_LINES)]


@router.post("/v3/templates", status_code=202)
@router.post("/v2/templates", status_code=202, include_in_schema=False)
async def request_build(body: RequestBuild, use: Use, caller: Caller, options: Options) -> RequestedBuild:
    """Ask for a build of the project's template of that name, which is made if there is none.

    It waits for its steps. Its tags, `default` if none is given, mean it once it is ready.
    """
    if not (body.name or body.alias):
        raise InvalidArgument("name is required")
    namespace = await namespace_of(use, caller)
    name, tags = new_name(str(body.name or body.alias), body.tags or (), namespace)
    template, build = await use.builds.request(caller.project_id, name, tags, spec_of(body, options))
    return RequestedBuild(
        templateID=template.id,
        buildID=build.id,
        public=template.public,
        names=shown_names(template.name, namespace),
        tags=list(build.tags) or [DEFAULT_TAG],
        aliases=[template.name],
    )


@router.post("/v2/templates/{id}/builds/{build}", status_code=202)
async def start_build(id: str, build: str, body: StartBuild, use: Use, caller: Caller) -> Response:
    """Begin a build that was asked for; answers at once."""
    credentials = credentials_of(body.fromImageRegistry)
    plan = plan_of(body, await _ground(use, caller, body))
    await use.builds.start(caller.project_id, _template_id(id), _build_id(build), plan, credentials=credentials)
    return Response(status_code=202)


@router.get("/templates/{id}/builds/{build}/status", response_model_exclude_none=True)
async def get_build_status(
    id: str,
    build: str,
    use: Use,
    caller: Caller,
    logsOffset: Annotated[int, Query(ge=0, lt=2**31, description="How many lines to leave out.")] = 0,
    limit: Limit = MAX_LINES,
    level: Level = None,
) -> BuildStatusView:
    """How a build stands, and the lines of its log from an offset on. Lines keep their numbers; with `level`, among
    those of that level."""
    template_id, build_id = _template_id(id), _build_id(build)
    found = await use.builds.get(caller.project_id, template_id, build_id)
    # After the state, so that the lines of a build that has ended are all there.
    lines = await use.builds.logs(caller.project_id, template_id, build_id, offset=logsOffset, limit=limit, level=level)
    return BuildStatusView.of(found, lines)


@router.get("/templates/{id}/builds/{build}/logs", response_model_exclude_none=True)
async def get_build_logs(
    id: str,
    build: str,
    use: Use,
    caller: Caller,
    cursor: Annotated[int | None, Query(ge=0, lt=2**50, description="Unix milliseconds.")] = None,
    limit: Limit = MAX_LINES,
    direction: Literal["forward", "backward"] = "forward",
    level: Level = None,
    source: Annotated[Literal["temporary", "persistent"] | None, Query(description="Both are the same here.")] = None,
) -> BuildLogs:
    """Lines of a build's log from `cursor` on: `forward` to newer ones, `backward` to older ones, newest first."""
    lines: list[LogEntry] = []
    while True:
        page = await use.builds.logs(
            caller.project_id, _template_id(id), _build_id(build), offset=len(lines), limit=_PAGE, level=level
        )
        lines += page
        if len(page) < _PAGE:
            break
    return BuildLogs(logs=[BuildLogEntry.of(line) for line in selected(lines, cursor, direction)[:limit]])


def max_body_bytes(method: str, path: str) -> int:
    """How long the body of a request to this dialect may be: 4 MiB for the steps of a build."""
    return MAX_PLAN_BYTES if method == "POST" and _PLAN.fullmatch(path) else MAX_BODY_BYTES


def spec_of(body: RequestBuild, options: E2bOptions) -> BuildSpec:
    """Where it is built and what its sandboxes get: what is asked for, else what sandboxes of `base` get."""
    bounds = Resources()
    if body.cpuCount is not None:
        bounds = replace(bounds, cpu=float(body.cpuCount))
    if body.memoryMB is not None:
        bounds = replace(bounds, memory_mib=body.memoryMB)
    if body.minFreeDiskMb is not None:
        # What a sandbox writes is all that counts: the template's own files take nothing of its disk.
        bounds = replace(bounds, disk_mib=max(bounds.disk_mib, body.minFreeDiskMb))
    return BuildSpec(options.runtime, bounds)


async def _ground(use: Services, caller: Principal, body: StartBuild) -> Ground:
    name = template_named(body)
    if name is None:
        return image_ground(str(body.fromImage))
    if body.fromTemplate:
        version, text = await find_version(use, caller, name), f"FROM TEMPLATE {name}"
    else:
        version, text = await machine_version(use, caller, name), f"FROM {body.fromImage}"
    return Ground(
        Base(BaseKind.TEMPLATE, version.pinned),
        text,
        own=version.own,
        workdir=version.defaults.workdir,
        start_command=version.start_command,
        ready_command=version.ready_command,
    )


def _template_id(text: str) -> TemplateId:
    return TemplateId(unquote(text).strip().lower()[:64])


def _build_id(text: str) -> BuildId:
    return BuildId(unquote(text).strip().lower()[:64])
