"""`/v1/images`: pull, list, forget, import, export, prune."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from atolld.api.answers import LINES, lines_of, with_first
from atolld.api.framework import request_id_of
from atolld.api.native.archives import MEDIA_TYPE
from atolld.api.native.image_schemas import ImageView, Pruned, PullImage, PullStepView
from atolld.api.native.paths import EncodedRoute
from atolld.api.native.schemas import Items
from atolld.api.services import Caller, Use
from atolld.api.streams import pieces_of
from atolld.images.imagestore import Image
from atolld.images.pull import PullProgress

# `{name}` is a reference with its `/`, `:` and `@` sent as `%2F`, `%3A` and `%40`.
router = APIRouter(tags=["images"], route_class=EncodedRoute)

PULL_PATH = "/v1/images/pull"
IMPORT_PATH = "/v1/images/import"

_BINARY = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}


def is_image_stream(method: str, path: str) -> bool:
    """Whether a request carries an archive: see `archives.is_stream`."""
    if method == "POST":
        return path == IMPORT_PATH
    return method == "GET" and path.startswith("/v1/images/") and path.endswith("/archive")


@router.get("/v1/images")
async def list_images(use: Use, caller: Caller) -> Items[ImageView]:
    """The project's images, by name. Sandboxes are created from one by its name, as from a template."""
    return Items(items=[ImageView.of(image) for image in await use.images.list(caller.project_id)])


@router.post(
    PULL_PATH,
    response_class=StreamingResponse,
    responses={200: {"description": "A JSON object a line.", "model": PullStepView, "content": {LINES: {}}}},
)
async def pull_image(request: Request, body: PullImage, use: Use, caller: Caller) -> StreamingResponse:
    """Pull an image, as far as it is not here. Every line is a step; the last one has `image`, or `error` in the form
    that errors have. Who closes the connection ends the pull; the next one goes on from where it was."""
    steps = use.images.pull(caller.project_id, body.reference, body.credentials(), insecure=body.insecure)
    # What can be refused at once has a status; afterwards there is only a line to tell it with.
    first = await anext(steps)
    return StreamingResponse(lines_of(with_first(first, steps), _view, request_id_of(request)), media_type=LINES)


@router.post(
    IMPORT_PATH,
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def import_image(
    request: Request,
    use: Use,
    caller: Caller,
    name: Annotated[str | None, Query(max_length=512, description="Its name here. Default: the archive's.")] = None,
) -> ImageView:
    """Store the image of an archive: what `docker save` writes, or a tar of an OCI layout; gzip and zstd are fine."""
    return ImageView.of(await use.images.import_(caller.project_id, name, pieces_of(request)))


@router.post("/v1/images/prune")
async def prune_images(use: Use, _caller: Caller) -> Pruned:
    """Remove layers that no image, template, sandbox or snapshot needs, of all projects, and what broken pulls left."""
    return Pruned(layers=list(await use.images.prune()))


@router.get("/v1/images/{name}")
async def get_image(name: str, use: Use, caller: Caller) -> ImageView:
    """One image."""
    return ImageView.of(await use.images.get(caller.project_id, name))


@router.delete("/v1/images/{name}", status_code=204)
async def delete_image(name: str, use: Use, caller: Caller) -> None:
    """Forget an image. What was started from it goes on; its layers are removed by `prune`."""
    await use.images.delete(caller.project_id, name)


@router.get(
    "/v1/images/{name}/archive",
    response_class=StreamingResponse,
    responses={200: {"description": "A tar, an OCI layout that `docker load` takes, too.", "content": _BINARY}},
)
async def export_image(name: str, use: Use, caller: Caller) -> StreamingResponse:
    """An image, or a template, as an archive."""
    pieces = use.images.export(caller.project_id, name)
    first = await anext(pieces)
    return StreamingResponse(with_first(first, pieces), media_type=MEDIA_TYPE)


def _view(step: PullProgress | Image) -> PullStepView:
    return PullStepView(image=ImageView.of(step)) if isinstance(step, Image) else PullStepView.of(step)
