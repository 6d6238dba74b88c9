"""Snapshots as files: encrypted and decrypted here, so that the passphrase never leaves this program."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import httpx

from atoll import _aio as backend
from atoll._age import Decryptor, Encryptor
from atoll._async.http import AsyncCall, AsyncHttp
from atoll._errors import ConnectionFailed, Timeout

# The daemon reads all of it before the first byte, and writes all of it to the disk after the last.
ARCHIVE_TIMEOUT_S = 1800.0
READ_BYTES = 1024 * 1024

OnBytes = Callable[[int], None]


async def export_archive(
    http: AsyncHttp, path: str, target: str | os.PathLike[str], passphrase: str, on_progress: OnBytes | None = None
) -> int:
    """Write the archive that the daemon has at `path` to the file `target`; returns the file's size in bytes.

    The file appears whole or not at all. Raises as `AsyncSnapshot.export`.
    """
    encryptor = await backend.run_blocking(Encryptor, passphrase)
    final = Path(target)
    partial = final.with_name(f".{final.name}.{secrets.token_hex(6)}.part")
    call = AsyncCall("GET", path, read_timeout_s=ARCHIVE_TIMEOUT_S, is_safe=True)
    response = await http.open(call)
    try:
        with await backend.run_blocking(_create, partial) as file:
            size = await _save(response, file, encryptor, on_progress)
        os.replace(partial, final)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    finally:
        await response.aclose()
    return size


async def import_archive(
    http: AsyncHttp,
    path: str,
    source: str | os.PathLike[str],
    passphrase: str,
    on_progress: OnBytes | None = None,
    params: dict[str, str] | None = None,
) -> Any:
    """Send the archive in the file `source` to the daemon; returns its answer. Raises as `AsyncSnapshot.import_`."""
    with await backend.run_blocking(_open, source) as file:
        pieces = _opened(file, Decryptor(passphrase), on_progress)
        # Before anything is sent: a wrong passphrase shall not look like a broken connection.
        first = await pieces.__anext__()
        call = AsyncCall(
            "POST",
            path,
            params=params,
            headers={"content-type": "application/octet-stream"},
            content=_with_first(first, pieces),
            read_timeout_s=ARCHIVE_TIMEOUT_S,
        )
        return await http.json(call)


async def _save(response: httpx.Response, file: IO[bytes], encryptor: Encryptor, on_progress: OnBytes | None) -> int:
    size = await backend.run_blocking(file.write, encryptor.begin())
    batch = bytearray()

    def write(end: bool) -> int:
        sealed = encryptor.update(bytes(batch)) + (encryptor.finish() if end else b"")
        batch.clear()
        return file.write(sealed)

    try:
        async for piece in response.aiter_raw():
            batch += piece
            if len(batch) >= READ_BYTES:
                size += await backend.run_blocking(write, False)
                if on_progress is not None:
                    on_progress(size)
    except httpx.TimeoutException as error:
        raise Timeout("the archive stopped coming") from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"the connection broke before the archive was complete: {error}") from error
    size += await backend.run_blocking(write, True)
    if on_progress is not None:
        on_progress(size)
    return size


async def _opened(file: IO[bytes], decryptor: Decryptor, on_progress: OnBytes | None) -> AsyncIterator[bytes]:
    read = 0
    while data := await backend.run_blocking(file.read, READ_BYTES):
        read += len(data)
        opened = await backend.run_blocking(decryptor.update, data)
        if on_progress is not None:
            on_progress(read)
        if opened:
            yield opened
    yield decryptor.finish()


async def _with_first(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb")


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    return open(path, "rb")
