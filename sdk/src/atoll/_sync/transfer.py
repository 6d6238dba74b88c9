# Generated from `src/atoll/_async/transfer.py` by `scripts/unasync.py`: change that, not this.
"""Large files up and down, by stream, with flat memory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx

from atoll import _threads as backend
from atoll._sync.content import Body, prepare
from atoll._sync.guest import STREAM_READ_TIMEOUT_S, Guest
from atoll._sync.http import Call
from atoll._errors import ConnectionFailed, Timeout

# Handing a piece to the disk costs more than a piece of the network's size does, so they go in batches.
WRITE_BATCH_BYTES = 1024 * 1024

Progress = Callable[[int, int | None], None]


class Transfer:
    """The part of `sandbox.files` that moves content."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def upload(
        self,
        local: str | os.PathLike[str],
        remote: str,
        *,
        user: str | None = None,
        on_progress: Progress | None = None,
    ) -> int:
        """Copy a local file into the sandbox; returns its size in bytes.

        on_progress: called with the bytes sent so far and the file's size. Raises OSError when the local file cannot be
        read, NoSpace when the sandbox's disk is full.
        """
        with backend.run_blocking(_open_for_reading, local) as file:
            size = os.fstat(file.fileno()).st_size

            def report(sent: int) -> None:
                if on_progress is not None:
                    on_progress(sent, size)

            body = prepare(file, report)
            self.send(remote, body, user=user)
        return size

    def download(
        self,
        remote: str,
        local: str | os.PathLike[str],
        *,
        user: str | None = None,
        on_progress: Progress | None = None,
    ) -> int:
        """Copy a file out of the sandbox; returns its size in bytes.

        local: the file to write; its directory must exist. It appears whole or not at all: the content goes to a file
        beside it that takes its place at the end. on_progress: called now and then with the bytes so far and the size,
        None when it is unknown. Raises OSError when it cannot be written.
        """
        target = Path(local)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        response = self.open_download(remote, user=user)
        try:
            with backend.run_blocking(_create, partial) as file:
                received = self._save(response, file, on_progress)
            os.replace(partial, target)
        except BaseException:
            response.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            raise
        return received

    def _save(self, response: httpx.Response, file: IO[bytes], on_progress: Progress | None) -> int:
        length = response.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        received = 0
        batch: list[bytes] = []
        batch_bytes = 0
        for piece in self.pieces(response):
            batch.append(piece)
            batch_bytes += len(piece)
            if batch_bytes >= WRITE_BATCH_BYTES:
                backend.run_blocking(file.writelines, batch)
                received += batch_bytes
                batch, batch_bytes = [], 0
                if on_progress is not None:
                    on_progress(received, size)
        backend.run_blocking(file.writelines, batch)
        received += batch_bytes
        if on_progress is not None:
            on_progress(received, size)
        return received

    def send(self, path: str, body: Body, *, user: str | None) -> None:
        """For the SDK itself: write one file with this body."""
        call = Call(
            "POST",
            self._guest.agent_path("files"),
            params=_file_params(path, user),
            headers=body.headers(),
            content=body.data,
            is_safe=True,
        )
        self._guest.json(call)

    def open_download(self, path: str, *, user: str | None) -> httpx.Response:
        """For the SDK itself: the answer that carries a file's content."""
        call = Call(
            "GET",
            self._guest.agent_path("files"),
            params=_file_params(path, user),
            read_timeout_s=STREAM_READ_TIMEOUT_S,
            is_safe=True,
        )
        return self._guest.open(call)

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """For the SDK itself: the content of an answer, closing it at the end."""
        try:
            for piece in response.iter_raw():
                yield piece
        except httpx.TimeoutException as error:
            raise Timeout("the file's content stopped coming") from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"the connection broke while a file was read: {error}") from error
        finally:
            response.close()


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb")


def _file_params(path: str, user: str | None) -> dict[str, str]:
    return {"path": path} if user is None else {"path": path, "username": user}


def _open_for_reading(path: str | os.PathLike[str]) -> IO[bytes]:
    return open(path, "rb")
