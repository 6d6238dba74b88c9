"""The uncompressed bytes of a layer, bounded in number and time, and hashed as they are read.

How a layer is compressed is told by its first bytes, as Docker does it: media types are often wrong. Zstandard is left
to Debian's `zstd`, which holds to its own bound on memory (128 MiB).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.foundation.units import format_bytes

MAX_LAYER_BYTES = 32 << 30
# Files seldom shrink to a tenth; a layer that shrinks to less than this share was made to fill disks.
MAX_RATIO = 100
FREE_OF_RATIO_BYTES = 512 << 20
# From the first byte to the last: a minute, and half a second for each compressed MiB. Measured on two cores: a layer
# of a million empty files takes a minute, one of a compressed GiB of ordinary files half a minute.
LEAST_S = 60.0
BYTES_PER_S = 2 << 20
# Members without a byte in a row.
MAX_EMPTY_MEMBERS = 1000
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
_READ_BYTES = 256 << 10


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class LayerStream:
    """A layer's tar as a file that can only be read. Raises InvalidArgument past its limits.

    `limit_s`: for all of it, from now on.
    """

    def __init__(
        self,
        source: _Reader,
        limit_bytes: int,
        limit_s: float = LEAST_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._began = monotonic()
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = _READ_BYTES) -> bytes:
        """At most `size` bytes; none at the end."""
        data = self._source.read(size)
        if self._monotonic() - self._began > self._limit_s:
            raise InvalidArgument(
                f"a layer takes longer than {self._limit_s:.0f} s to unpack, which is too long for its size compressed"
            )
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise InvalidArgument(
                f"a layer has more than {format_bytes(self._limit_bytes)} unpacked, which is too much for its size "
                "compressed, or at all"
            )
        self._hasher.update(data)
        return data

    def drain(self) -> str:
        """Read what is left; returns the digest of the whole."""
        while self.read(_READ_BYTES):
            pass
        return f"sha256:{self._hasher.hexdigest()}"


def limit_of(compressed_bytes: int) -> int:
    """How many bytes a layer may have unpacked."""
    return min(MAX_LAYER_BYTES, max(FREE_OF_RATIO_BYTES, MAX_RATIO * compressed_bytes))


def seconds_of(compressed_bytes: int) -> float:
    """How long a layer may take to unpack."""
    return LEAST_S + compressed_bytes / BYTES_PER_S


@contextmanager
def open_layer(path: Path, limit_bytes: int | None = None) -> Iterator[LayerStream]:
    """The layer in the file `path`, compressed or not. Blocks.

    Raises InvalidArgument when it is damaged or compressed in another way, FailedPrecondition without `zstd`, OSError.
    """
    size = path.stat().st_size
    limit, limit_s = limit_of(size) if limit_bytes is None else limit_bytes, seconds_of(size)
    with path.open("rb", buffering=0) as file:
        head = file.read(6)
        file.seek(0)
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise InvalidArgument(f"a layer is compressed with {name}; gzip and zstd are understood")
        if head.startswith(_GZIP):
            yield LayerStream(_Gunzip(file), limit, limit_s)
        elif head.startswith(_ZSTD) or _is_skippable(head):
            with _unzstd(file) as source:
                yield LayerStream(source, limit, limit_s)
        else:
            yield LayerStream(file, limit, limit_s)


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18"


class _Gunzip:
    """Reads gzip of any number of members, never more at once than it is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(31)
        self._rest = b""
        self._empty_members = 0

    def read(self, size: int, /) -> bytes:
        while size > 0:
            if self._inflate.eof:
                # Each costs as much as a large one, and nobody who reads gets a turn meanwhile.
                self._empty_members += 1
                if self._empty_members > MAX_EMPTY_MEMBERS:
                    raise InvalidArgument("a layer is damaged: it consists of empty gzip streams")
                self._rest = self._inflate.unused_data or self._file.read(_READ_BYTES)
                # Padding with zeros is allowed after the last member.
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    return b""
                self._inflate = zlib.decompressobj(31)
            feed = self._rest or self._file.read(_READ_BYTES)
            if not feed and not self._inflate.unconsumed_tail:
                raise InvalidArgument("a layer is damaged: its gzip stream is cut off")
            try:
                data = self._inflate.decompress(feed, size)
            except zlib.error as error:
                raise InvalidArgument(f"a layer is damaged: {error}") from None
            self._rest = self._inflate.unconsumed_tail
            if data:
                self._empty_members = 0
                return data
        return b""


class _Exact:
    """A pipe's bytes; a failure of the program behind it is told at its end."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    def read(self, size: int, /) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if not data and size and self._process.wait() != 0:
            self._errors.seek(0)
            words = self._errors.read(300).decode(errors="replace").strip()
            raise InvalidArgument(f"a layer is damaged: {words or 'zstd failed'}")
        return data


@contextmanager
def _unzstd(file: IO[bytes]) -> Iterator[_Reader]:
    program = shutil.which("zstd")
    if program is None:
        raise FailedPrecondition("a layer is compressed with zstd, which this machine lacks: apt-get install zstd")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [program, "--decompress", "--stdout", "--quiet", "--single-thread"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
        )
        try:
            yield _Exact(process, errors)
        finally:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
