"""Files of a build: whether they are there, and their upload."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, unquote, urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from atolld.api.e2b.templates import owned_template
from atolld.api.e2b.uploads import Links, base_url
from atolld.api.services import Caller, Use
from atolld.api.streams import pieces_of
from atolld.foundation.errors import InvalidArgument

router = APIRouter(tags=["templates"])

_HASH = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"/templates/[^/]+/files/[^/]+")


class FileUpload(BaseModel):
    """Where files are uploaded to (PUT, a tar, with gzip or not), for an hour; those that are `present` need not be."""

    present: bool
    url: str


def is_upload(method: str, path: str) -> bool:
    """Whether a request carries files: its body is not read ahead."""
    return method == "PUT" and _PATH.fullmatch(path) is not None


@router.get("/templates/{id}/files/{hash}", status_code=201)
async def get_file_upload(id: str, hash: str, request: Request, use: Use, caller: Caller, links: Links) -> FileUpload:
    """Whether the project has files of that name, the SHA-256 that its client computes of them, and where they go."""
    _check(hash)
    await owned_template(use, caller, unquote(id))
    token = links.token(caller.project_id, unquote(id), hash)
    url = f"{base_url(request)}/templates/{quote(unquote(id), safe='')}/files/{hash}?{urlencode({'token': token})}"
    return FileUpload(present=await use.builds.has_files(caller.project_id, hash), url=url)


@router.put(
    "/templates/{id}/files/{hash}",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {}}}}},
)
async def put_files(
    id: str,
    hash: str,
    request: Request,
    use: Use,
    links: Links,
    token: Annotated[str, Query(max_length=256, description="As in the URL that was given.")] = "",
) -> Response:
    """Store files of a build; those that were there under that name are replaced. The token is the permission."""
    _check(hash)
    project_id = links.project(token, unquote(id), hash)
    await use.builds.put_files(project_id, hash, pieces_of(request))
    return Response()


def _check(hash: str) -> None:
    if not _HASH.fullmatch(hash):
        raise InvalidArgument(f"the files hash is {hash[:80]!r}; 64 lower-case hex digits are expected")
