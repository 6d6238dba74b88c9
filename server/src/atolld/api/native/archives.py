"""`/v1/snapshots/.../archive` and `/v1/snapshots/import`: snapshots on their way to and from other machines.

Neither is encrypted here: the client does that, and its passphrase never leaves it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from atolld.api.answers import with_first
from atolld.api.native.paths import EncodedRoute
from atolld.api.native.query import snapshot_ref
from atolld.api.native.snapshot_schemas import SnapshotView
from atolld.api.services import Caller, Use
from atolld.api.streams import pieces_of

router = APIRouter(tags=["snapshots"], route_class=EncodedRoute)

IMPORT_PATH = "/v1/snapshots/import"
_EXPORT_END = "/archive"
MEDIA_TYPE = "application/octet-stream"

_BINARY = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}


def is_stream(method: str, path: str) -> bool:
    """Whether a request carries an archive: its body is not read ahead, and its answer ends when the client goes."""
    if method == "POST":
        return path == IMPORT_PATH
    return method == "GET" and path.startswith("/v1/snapshots/") and path.endswith(_EXPORT_END)


@router.get(
    "/v1/snapshots/{id}/archive",
    response_class=StreamingResponse,
    responses={200: {"description": "The archive, signed and not encrypted.", "content": _BINARY}},
)
async def export_snapshot(id: str, use: Use, caller: Caller) -> StreamingResponse:
    """A snapshot with its template as one stream, for `import` here or on another machine. It holds whatever the
    sandbox's memory held, secrets included."""
    pieces = await use.snapshots.export(caller.project_id, snapshot_ref(id))
    # What can be refused is refused by now, or with the first piece: afterwards there is no status to tell it with.
    first = await anext(pieces)
    return StreamingResponse(with_first(first, pieces), media_type=MEDIA_TYPE)


@router.post(
    IMPORT_PATH,
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def import_snapshot(
    request: Request,
    use: Use,
    caller: Caller,
    name: Annotated[
        str | None,
        Query(max_length=128, description="Its name here; one that is taken moves to this one. Default: none."),
    ] = None,
) -> SnapshotView:
    """Store a snapshot from the stream that `archive` gave. It must be signed by this machine or by one that the
    setting `archive_trust` names, and fit this machine's engine and CPU."""
    return SnapshotView.of(await use.snapshots.import_(caller.project_id, name, pieces_of(request)))
