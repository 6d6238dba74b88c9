# Generated from `src/atoll/_async/archives.py` by `scripts/unasync.py`: change that, not this.
"""Snapshots as files: encrypted and decrypted here, so that the passphrase never leaves this program."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx

from atoll import _threads as backend
from atoll._age import Decryptor, Encryptor
from atoll._sync.http import Call, Http
from atoll._errors import ConnectionFailed, Timeout

# The daemon reads all of it before the first byte, and writes all of it to the disk after the last.
ARCHIVE_TIMEOUT_S = 1800.0
READ_BYTES = 1024 * 1024

OnBytes = Callable[[int], None]


def export_archive(
    http: Http, path: str, target: str | os.PathLike[str], passphrase: str, on_progress: OnBytes | None = None
) -> int:
    """Write the archive that the daemon has at `path` to the file `target`; returns the file's size in bytes.

    The file appears whole or not at all. Raises as `Snapshot.export`.
    """
    encryptor = backend.run_blocking(Encryptor, passphrase)
    final = Path(target)
    partial = final.with_name(f".{final.name}.{secrets.token_hex(6)}.part")
    call = Call("GET", path, read_timeout_s=ARCHIVE_TIMEOUT_S, is_safe=True)
    response = http.open(call)
    try:
        with backend.run_blocking(_create, partial) as file:
            size = _save(response, file, encryptor, on_progress)
        os.replace(partial, final)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    finally:
        response.close()
    return size


def import_archive(
    http: Http,
    path: str,
    source: str | os.PathLike[str],
    passphrase: str,
    on_progress: OnBytes | None = None,
    params: dict[str, str] | None = None,
) -> Any:
    """Send the archive in the file `source` to the daemon; returns its answer. Raises as `Snapshot.import_`."""
    with backend.run_blocking(_open, source) as file:
        pieces = _opened(file, Decryptor(passphrase), on_progress)
        # Before anything is sent: a wrong passphrase shall not look like a broken connection.
        first = pieces.__next__()
        call = Call(
            "POST",
            path,
            params=params,
            headers={"content-type": "application/octet-stream"},
            content=_with_first(first, pieces),
            read_timeout_s=ARCHIVE_TIMEOUT_S,
        )
        return http.json(call)


def _save(response: httpx.Response, file: IO[bytes], encryptor: Encryptor, on_progress: OnBytes | None) -> int:
    size = backend.run_blocking(file.write, encryptor.begin())
    batch = bytearray()

    def write(end: bool) -> int:
        sealed = encryptor.update(bytes(batch)) + (encryptor.finish() if end else b"")
        batch.clear()
        return file.write(sealed)

    try:
        for piece in response.iter_raw():
            batch += piece
            if len(batch) >= READ_BYTES:
                size += backend.run_blocking(write, False)
                if on_progress is not None:
                    on_progress(size)
    except httpx.TimeoutException as error:
        raise Timeout("the archive stopped coming") from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"the connection broke before the archive was complete: {error}") from error
    size += backend.run_blocking(write, True)
    if on_progress is not None:
        on_progress(size)
    return size


def _opened(file: IO[bytes], decryptor: Decryptor, on_progress: OnBytes | None) -> Iterator[bytes]:
    read = 0
    while data := backend.run_blocking(file.read, READ_BYTES):
        read += len(data)
        opened = backend.run_blocking(decryptor.update, data)
        if on_progress is not None:
            on_progress(read)
        if opened:
            yield opened
    yield decryptor.finish()


def _with_first(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    for piece in pieces:
        yield piece


def _create(path: Path) -> IO[bytes]:
    return open(path, "xb")


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    return open(path, "rb")
