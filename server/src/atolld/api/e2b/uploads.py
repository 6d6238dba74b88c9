"""URLs that files of a build are uploaded to: E2B's clients send no key there, so the URL itself is the permission."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from atolld.foundation.errors import PermissionDenied
from atolld.foundation.ids import ProjectId

# As long as a client may take to upload.
LIFETIME_S = 3600

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


class UploadLinks:
    """Makes and checks them. The key lives as long as the daemon: after a restart, a client asks for a new URL."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._now = now

    def token(self, project_id: ProjectId, template: str, files: str) -> str:
        """What lets its bearer store `files` for the project, for an hour."""
        end = int(self._now()) + LIFETIME_S
        return f"{end}.{project_id}.{self._signature(end, project_id, template, files)}"

    def project(self, token: str, template: str, files: str) -> ProjectId:
        """Whose files they are. Raises PermissionDenied unless the token was made for exactly these and is not over."""
        end, _, rest = token.partition(".")
        project_id, _, signature = rest.rpartition(".")
        if not (end.isascii() and end.isdigit() and len(end) < 16):
            raise PermissionDenied("the token of this upload is not one")
        wanted = self._signature(int(end), ProjectId(project_id), template, files)
        if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
            raise PermissionDenied("the token of this upload is not for these files; ask for a new URL")
        if self._now() >= int(end):
            raise PermissionDenied("the URL of this upload is over an hour old; ask for a new one")
        return ProjectId(project_id)

    def _signature(self, end: int, project_id: ProjectId, template: str, files: str) -> str:
        # None of these can hold a line feed: ids and digests are checked, and a path has it only as %0A.
        what = "\n".join((str(end), project_id, template, files))
        return hmac.new(self._key, what.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def base_url(request: Request) -> str:
    """Where the client reached the daemon, as `http://host:port`; behind a proxy, what that says of it."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    host = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if scheme not in ("http", "https"):
        scheme = request.url.scheme
    if not _HOST.fullmatch(host):
        host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = request.url.netloc
    return f"{scheme}://{host}"


async def links_of(request: Request) -> UploadLinks:
    """The links of the daemon that serves this request."""
    links = request.app.state.uploads
    assert isinstance(links, UploadLinks)
    return links


Links = Annotated[UploadLinks, Depends(links_of)]
