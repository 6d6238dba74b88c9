"""`/v1/build-files`, `/v1/templates/.../builds` and `/v1/images/build`: what is built, its log, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from atolld.api.answers import LINES, lines_of
from atolld.api.framework import request_id_of
from atolld.api.native.archives import MEDIA_TYPE
from atolld.api.native.build_schemas import (
    BuildBuiltin,
    BuildImage,
    BuildLine,
    BuildView,
    CreateTemplate,
    FilesView,
    LogEntryView,
    RequestedBuild,
    StartBuild,
)
from atolld.api.services import Caller, Use
from atolld.api.streams import pieces_of
from atolld.core.build import LogEntry
from atolld.core.template import Build, TemplateRecord
from atolld.core.templatenames import DEFAULT_TAG, parse_template_ref
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import BuildId, TemplateId, is_build_id, is_template_id

router = APIRouter(tags=["builds"])

FILES_PATH = "/v1/build-files/"
IMAGE_PATH = "/v1/images/build"
_BUILDS = "/v1/templates/{template_id}/builds/{build_id}"

_BINARY = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}


def is_build_stream(method: str, path: str) -> bool:
    """Whether a request carries files or is answered by a log that goes on: see `archives.is_stream`."""
    if method == "PUT":
        return path.startswith(FILES_PATH)
    return method == "GET" and path.startswith("/v1/templates/") and path.endswith("/logs")


@router.get("/v1/build-files/{name}")
async def has_build_files(name: str, use: Use, caller: Caller) -> FilesView:
    """Whether the project has uploaded files under a name."""
    return FilesView(present=await use.builds.has_files(caller.project_id, name))


@router.put(
    "/v1/build-files/{name}",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def put_build_files(name: str, request: Request, use: Use, caller: Caller) -> FilesView:
    """Upload files for builds: a tar, also with gzip or zstd, under a name of 1 to 128 of `0-9a-zA-Z_-`, best a digest
    of what is in it. Files that are not used for a week are deleted."""
    await use.builds.put_files(caller.project_id, name, pieces_of(request))
    return FilesView(present=True)


@router.post("/v1/templates", status_code=201)
async def create_template(body: CreateTemplate, use: Use, caller: Caller) -> RequestedBuild:
    """Ask for a build: a new version of the project's template of that name, which is made when it is new."""
    ref = parse_template_ref(body.name)
    if ref.project is not None:
        raise InvalidArgument(f"{body.name[:80]!r} names a project: templates are built in one's own")
    tags = tuple(dict.fromkeys([*([ref.tag] if ref.tag != DEFAULT_TAG else []), *body.tags]))
    template, build = await use.builds.request(caller.project_id, ref.name, tags, body.to_spec())
    if body.public is not None and body.public != template.public:
        template = await use.template_records.set_public(caller.project_id, template.id, body.public)
    return RequestedBuild.of(template, build)


@router.post("/v1/templates/builtin/{name}", status_code=202)
async def build_builtin(name: str, body: BuildBuiltin, use: Use, caller: Caller) -> RequestedBuild:
    """Build a template that comes with Atoll, `code-interpreter-v1`, into the project. It goes on when the client goes
    away; what was built before, for any project, is in the cache."""
    return RequestedBuild.of(*await use.builtins.build(caller.project_id, name, body.languages))


@router.post(_BUILDS, status_code=202)
async def start_build(template_id: str, build_id: str, body: StartBuild, use: Use, caller: Caller) -> BuildView:
    """Say what a build is to make, and start it. It goes on when the client goes away."""
    # Somebody's text of a megabyte is not read in the loop that serves everybody.
    plan = await asyncio.to_thread(body.to_plan)
    ids = _ids(template_id, build_id)
    build = await use.builds.start(
        caller.project_id, *ids, plan, credentials=body.credentials(), secrets=body.secret_values()
    )
    return BuildView.of(build)


@router.get(_BUILDS)
async def get_build(template_id: str, build_id: str, use: Use, caller: Caller) -> BuildView:
    """How a build stands."""
    return BuildView.of(await use.builds.get(caller.project_id, *_ids(template_id, build_id)))


@router.delete(_BUILDS, status_code=204)
async def cancel_build(template_id: str, build_id: str, use: Use, caller: Caller) -> None:
    """End a build that goes on; steps that were done stay in the cache. One that has ended stays as it is."""
    await use.builds.cancel(caller.project_id, *_ids(template_id, build_id))


@router.get(
    f"{_BUILDS}/logs",
    response_class=StreamingResponse,
    responses={200: {"description": "A JSON object a line.", "model": LogEntryView, "content": {LINES: {}}}},
)
async def get_build_logs(
    template_id: str,
    build_id: str,
    use: Use,
    caller: Caller,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="The number of the first line.")] = 0,
    follow: Annotated[bool, Query(description="Go on until the build has ended.")] = False,
) -> Response:
    """What a build said so far. Lines are numbered from 0 and stay as they are."""
    ids = _ids(template_id, build_id)
    await use.builds.get(caller.project_id, *ids)
    if follow:
        lines = use.builds.follow(caller.project_id, *ids, offset)
        return StreamingResponse(_entries(lines), media_type=LINES)
    found = await use.builds.logs(caller.project_id, *ids, offset=offset, limit=None)
    return Response(b"".join(map(_entry, found)), media_type=LINES)


@router.post(
    IMAGE_PATH,
    response_class=StreamingResponse,
    responses={200: {"description": "A JSON object a line.", "model": BuildLine, "content": {LINES: {}}}},
)
async def build_image(request: Request, body: BuildImage, use: Use, caller: Caller) -> StreamingResponse:
    """Build an image that is defined where it is used. What was built before is not built again. Every line is one of
    the log; the last one has `template`, what sandboxes are created from, or `error`. Who closes the connection ends
    the build; steps that were done stay in the cache."""
    plan = await asyncio.to_thread(body.to_plan)
    items = use.definitions.build(
        caller.project_id,
        plan,
        body.to_spec(),
        credentials=body.credentials(),
        secrets=body.secret_values(),
    )
    return StreamingResponse(lines_of(items, _line, request_id_of(request)), media_type=LINES)


def _ids(template_id: str, build_id: str) -> tuple[TemplateId, BuildId]:
    """Raises NotFound: what cannot be an id names nothing."""
    if not is_template_id(template_id) or not is_build_id(build_id):
        raise NotFound(f"there is no build {build_id[:80]!r} of a template {template_id[:80]!r}")
    return TemplateId(template_id), BuildId(build_id)


def _entry(entry: LogEntry) -> bytes:
    return LogEntryView.of(entry).model_dump_json().encode() + b"\n"


async def _entries(entries: AsyncIterator[LogEntry]) -> AsyncIterator[bytes]:
    async with aclosing(entries):  # type: ignore[type-var]
        async for entry in entries:
            yield _entry(entry)


def _line(item: LogEntry | tuple[TemplateRecord, Build]) -> BuildLine:
    if isinstance(item, LogEntry):
        return BuildLine(log=LogEntryView.of(item))
    template, build = item
    return BuildLine(template=template.name, build=BuildView.of(build))
