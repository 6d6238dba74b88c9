"""Snapshots: sandboxes as they were, kept to be started again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from atoll._async.archives import export_archive, import_archive
from atoll._async.http import AsyncCall, AsyncHttp
from atoll._async.listing import AsyncPages
from atoll._async.requests import SLOW_TIMEOUT_S, items
from atoll._config import Config
from atoll._errors import LimitExceeded, NotFound
from atoll._state_models import FileDiff, SnapshotInfo
from atoll._tree import draw

MAX_DIFFS = 10_000


class AsyncSnapshot:
    """One snapshot. Made by `sandbox.snapshot()`, found by `get`; sandboxes are created from it as from a template.

    id, name (None when it has none), sandbox_id, parent_id, kind ("memory" or "filesystem"), size_bytes, created_at,
    stopped_ms (how long the sandbox stood still for it): as in `info`, its state when this object was made.
    """

    def __init__(self, http: AsyncHttp, info: SnapshotInfo) -> None:
        self._http = http
        self.info = info
        self.id = info.id
        self.name = info.name
        self.sandbox_id = info.sandbox_id
        self.parent_id = info.parent_id
        self.kind = info.kind
        self.size_bytes = info.size_bytes
        self.created_at = info.created_at
        self.stopped_ms = info.stopped_ms

    @classmethod
    async def get(cls, id_or_name: str, *, config: Config | None = None) -> AsyncSnapshot:
        """The snapshot with this id or name. Raises NotFound."""
        http = AsyncHttp(config or Config.load())
        call = AsyncCall("GET", snapshot_path(id_or_name), is_safe=True)
        return cls(http, SnapshotInfo.from_json(await http.json(call)))

    @classmethod
    def list(
        cls,
        *,
        sandbox_id: str | None = None,
        name: str | None = None,
        page_size: int = 100,
        config: Config | None = None,
    ) -> AsyncSnapshotList:
        """The snapshots of your project, newest first; iterate over it, or take it page by page.

        sandbox_id: only those taken of it. name: only the one that has it. page_size: 1 to 100 for each request.
        """
        params = {"sandbox": sandbox_id, "name": name, "limit": str(page_size)}
        given = {key: value for key, value in params.items() if value is not None}
        return AsyncSnapshotList(AsyncHttp(config or Config.load()), given)

    @classmethod
    async def import_(
        cls,
        path: str | os.PathLike[str],
        *,
        passphrase: str,
        name: str | None = None,
        on_progress: Callable[[int], None] | None = None,
        config: Config | None = None,
    ) -> AsyncSnapshot:
        """Store the snapshot in a file that `export` wrote, here or on another machine.

        The file is decrypted in this program; the daemon never sees the passphrase. name: its name here, taken from
        whichever snapshot had it; without it, it has none. on_progress: called with the bytes of the file read so far.

        Raises OSError when the file cannot be read, InvalidArgument for a wrong passphrase or a damaged file,
        PermissionDenied when a machine made it that the daemon does not trust (setting `archive_trust`),
        FailedPrecondition when the daemon's engine or CPU cannot run it, LimitExceeded, Capacity; nothing is left then.
        Unavailable when the library for it is missing: pip install 'atoll[archive]'.
        """
        http = AsyncHttp(config or Config.load())
        params = {} if name is None else {"name": name}
        answer = await import_archive(http, "/v1/snapshots/import", path, passphrase, on_progress, params)
        return cls(http, SnapshotInfo.from_json(answer))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or self.id!r})"

    async def export(
        self, path: str | os.PathLike[str], *, passphrase: str, on_progress: Callable[[int], None] | None = None
    ) -> int:
        """Write it with its template to one encrypted file, for `import_`; returns the file's size in bytes.

        The file is encrypted in this program, in the format of age (`age -d` reads it); the daemon never sees the
        passphrase. It holds all that the sandbox's memory and files held, secrets included. It appears whole or not at
        all, and takes the place of one that is there. on_progress: called with the bytes written so far.

        Raises OSError when it cannot be written, NotFound, FailedPrecondition when the snapshot is damaged,
        InvalidArgument for an empty passphrase, Unavailable when the library for it is missing: pip install
        'atoll[archive]'.
        """
        return await export_archive(self._http, snapshot_path(self.id) + "/archive", path, passphrase, on_progress)

    async def delete(self) -> bool:
        """Forget it; what was started from it goes on. False when it was gone already."""
        try:
            await self._http.json(AsyncCall("DELETE", snapshot_path(self.id), is_safe=True))
        except NotFound:
            return False
        return True

    async def diff(self, other: AsyncSnapshot | str | None = None, *, limit: int | None = None) -> Sequence[FileDiff]:
        """Which files of this snapshot differ from those of `other`, an earlier one; None: from its template.

        limit: at most so many, 1 to 10,000. Without it all are given; raises LimitExceeded when there are 10,000 or
        more. Raises NotFound, FailedPrecondition when the two do not lie on the same template.
        """
        params = {"limit": str(limit or MAX_DIFFS)}
        if other is not None:
            params["against"] = other if isinstance(other, str) else other.id
        path = snapshot_path(self.id) + "/diff"
        call = AsyncCall("GET", path, params=params, read_timeout_s=SLOW_TIMEOUT_S, is_safe=True)
        answer = await self._http.json(call)
        found = [FileDiff.from_json(item) for item in items(answer)]
        if limit is None and isinstance(answer, dict) and answer.get("complete") is False:
            raise LimitExceeded(f"{MAX_DIFFS} files or more differ; give a limit to see the first ones")
        return found


class AsyncSnapshotList(AsyncPages[AsyncSnapshot]):
    """Snapshots that match a filter: iterate over all of them, or call `next_page` while `has_next`."""

    _path = "/v1/snapshots"

    def _read(self, answer: Mapping[str, Any]) -> Sequence[AsyncSnapshot]:
        return [AsyncSnapshot(self._http, SnapshotInfo.from_json(item)) for item in answer["items"]]


class AsyncCheckpoints:
    """A tree of checkpoints, oldest first: iterate over it, or print it.

    head_id: the one that the sandbox stands on, None when it has ended or stands on none.
    """

    def __init__(self, all_: Sequence[AsyncSnapshot], head_id: str | None) -> None:
        self._all = list(all_)
        self.head_id = head_id

    def __iter__(self) -> Iterator[AsyncSnapshot]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __str__(self) -> str:
        return draw([one.info for one in self._all], self.head_id)

    def children(self, parent: AsyncSnapshot | None = None) -> Sequence[AsyncSnapshot]:
        """Those right below `parent`; None: those that have no parent in this tree."""
        if parent is not None:
            return [one for one in self._all if one.parent_id == parent.id]
        known = {one.id for one in self._all}
        return [one for one in self._all if one.parent_id not in known]


def snapshot_path(id_or_name: str) -> str:
    """The daemon's path of a snapshot. Raises NotFound for an empty name, which would be the path of all."""
    # Dots alone would be taken for a step in the path, by the HTTP library already.
    if not id_or_name.strip("."):
        raise NotFound(f"there is no snapshot {id_or_name!r}")
    return f"/v1/snapshots/{quote(id_or_name, safe='')}"
