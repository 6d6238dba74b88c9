"""Files of one sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, overload

from atoll import _aio as backend
from atoll._async.content import Content, prepare
from atoll._async.transfer import AsyncTransfer
from atoll._async.watch import AsyncWatch
from atoll._errors import AlreadyExists, NotFound, SandboxEnded
from atoll._models import FileInfo

# Requests of a write_many that are under way at once.
WRITES_AT_ONCE = 8


class AsyncFiles(AsyncTransfer):
    """The file system of one sandbox (`sandbox.files`).

    Paths are the sandbox's; relative ones and `~` begin at the user's home. `user`: whose home that is, and who owns
    what is made, by default `user`. It limits nothing: you own the sandbox, and its agent may read and write all of
    it. All methods raise NotFound for a missing path, InvalidArgument for a path that cannot be one, PermissionDenied
    where the sandbox's kernel refuses even its agent, and SandboxEnded.
    """

    @overload
    async def read(self, path: str, *, format: Literal["text"] = "text", user: str | None = None) -> str: ...

    @overload
    async def read(self, path: str, *, format: Literal["bytes"], user: str | None = None) -> bytes: ...

    @overload
    async def read(self, path: str, *, format: Literal["stream"], user: str | None = None) -> AsyncIterator[bytes]: ...

    async def read(
        self, path: str, *, format: Literal["text", "bytes", "stream"] = "text", user: str | None = None
    ) -> str | bytes | AsyncIterator[bytes]:
        """A file's content.

        format: "text" decodes UTF-8 strictly (UnicodeDecodeError otherwise), "bytes" gives all bytes at once, "stream"
        an iterator of pieces with flat memory; a stream that is not read to its end should be closed.
        """
        if format == "stream":
            return self.pieces(await self.open_download(path, user=user))
        content = b"".join([piece async for piece in self.pieces(await self.open_download(path, user=user))])
        return content.decode() if format == "text" else content

    async def write(self, path: str, data: Content, *, user: str | None = None) -> FileInfo:
        """Write a file, making its directories; what was there is replaced.

        data: text (as UTF-8), bytes, an open binary file, or an iterable of bytes; the last two are streamed with flat
        memory. Raises NoSpace when the disk is full.
        """
        await self.send(path, await prepare(data), user=user)
        return await self.stat(path, user=user)

    async def write_many(
        self, files: Mapping[str, Content] | Sequence[tuple[str, Content]], *, user: str | None = None
    ) -> Sequence[FileInfo]:
        """Write several files, up to eight at once; as `write`. When one fails, others may have been written."""
        entries = list(files.items()) if isinstance(files, Mapping) else list(files)
        written: list[FileInfo] = []
        for start in range(0, len(entries), WRITES_AT_ONCE):
            batch = entries[start : start + WRITES_AT_ONCE]
            jobs = [backend.Job(self._write_job, path, data, user) for path, data in batch]
            written.extend(await backend.gather(jobs))
        return written

    async def list(self, path: str, *, depth: int = 1, user: str | None = None) -> Sequence[FileInfo]:
        """What is in a directory, by name. depth: 1 for its own entries, more for theirs too."""
        answer = await self._rpc("ListDir", {"path": path, "depth": depth}, user, is_safe=True)
        entries = answer.get("entries")
        return [FileInfo.from_json(item) for item in entries] if isinstance(entries, list) else []

    async def stat(self, path: str, *, user: str | None = None) -> FileInfo:
        """One entry; a link is described by its target."""
        answer = await self._rpc("Stat", {"path": path}, user, is_safe=True)
        return FileInfo.from_json(answer.get("entry"))

    async def exists(self, path: str, *, user: str | None = None) -> bool:
        """Whether there is something at this path."""
        try:
            await self.stat(path, user=user)
        except SandboxEnded:
            raise
        except NotFound:
            return False
        return True

    async def make_dir(self, path: str, *, user: str | None = None) -> bool:
        """Make a directory and those above it. False when it was there. InvalidArgument when a file is in the way."""
        try:
            await self._rpc("MakeDir", {"path": path}, user)
        except AlreadyExists:
            return False
        return True

    async def move(self, source: str, destination: str, *, user: str | None = None) -> FileInfo:
        """Rename a file or a directory, making the directories above `destination`."""
        answer = await self._rpc("Move", {"source": source, "destination": destination}, user)
        return FileInfo.from_json(answer.get("entry"))

    async def remove(self, path: str, *, user: str | None = None) -> None:
        """Remove a file, or a directory with all that is in it; nothing happens when there is none."""
        await self._rpc("Remove", {"path": path}, user, is_safe=True)

    async def watch(
        self, path: str, *, recursive: bool = False, include_entry: bool = False, user: str | None = None
    ) -> AsyncWatch:
        """Changes under a directory, from the moment this returns: iterate over the events, close it at the end.

        recursive: also in directories below, those made later included. include_entry: with each event what `stat`
        would tell. Raises InvalidArgument when the path is no directory.
        """
        request: dict[str, object] = {"path": path, "recursive": recursive, "includeEntry": include_entry}
        watch = AsyncWatch(self._guest, request, user)
        await watch.open()
        return watch

    async def _write_job(self, path: str, data: Content, user: str | None) -> FileInfo:
        return await self.write(path, data, user=user)

    async def _rpc(
        self, method: str, message: Mapping[str, object], user: str | None, *, is_safe: bool = False
    ) -> dict[str, object]:
        return await self._guest.unary(f"filesystem.Filesystem/{method}", message, user=user, is_safe=is_safe)
