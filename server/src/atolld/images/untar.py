"""Reading the entries of a hostile tar with Python's `tarfile`, without what it would let happen.

`tarfile` reads extended headers of any size into memory, and takes a damaged header in the middle for the end. Here an
extended header has a bound, and damage is an error.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, Protocol, Self

MAX_HEADER_BYTES = 1 << 20
MAX_HEADERS = 16

_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Readable(Protocol):
    """What a tar is read from."""

    def read(self, size: int, /) -> bytes: ...


def entries(stream: Readable) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every entry in order; its content is read with `tar.extractfile` before the next one is asked for.

    Raises tarfile.TarError or ValueError when it is no proper tar. Names that are not UTF-8 come as surrogates.
    """
    limited = _limited()
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "tarinfo": limited}
    with tarfile.open(fileobj=stream, mode="r|", **options) as tar:  # type: ignore[call-overload]
        for info in tar:
            # tarfile keeps every member it has seen, which for a large layer is a lot.
            tar.members = []
            limited.pending, limited.pending_bytes = 0, 0
            yield tar, info


def _limited() -> Any:
    class Limited(tarfile.TarInfo):
        # Of extended headers since the last entry, and of those that hold for all: many small ones would add up.
        pending = 0
        pending_bytes = 0
        global_bytes = 0

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                # Zeros, or nothing, are the end.
                if not bytes(buf).strip(b"\0"):
                    raise
                raise tarfile.ReadError(f"damaged header: {error}") from None

        def _proc_member(self, tar: tarfile.TarFile) -> Any:
            if self.type in _EXTENDED:
                Limited.pending += 1
                Limited.pending_bytes += self.size
                if Limited.pending > MAX_HEADERS:
                    # Each is read by a call inside the call for the one before.
                    raise tarfile.ReadError(f"more than {MAX_HEADERS} extended headers follow each other")
                if self.type == tarfile.XGLTYPE:
                    Limited.global_bytes += self.size
                if self.size < 0 or max(Limited.pending_bytes, Limited.global_bytes) > MAX_HEADER_BYTES:
                    raise tarfile.ReadError(f"extended headers of more than {MAX_HEADER_BYTES} bytes")
            elif self.size < 0:
                raise tarfile.ReadError("an entry with a negative size")
            elif self.type == tarfile.GNUTYPE_SPARSE:
                raise tarfile.ReadError("a sparse entry, which layers do not have")
            return super()._proc_member(tar)  # type: ignore[misc]

        def _sparse(self, *_: object) -> None:
            # Its map of holes has no bound.
            raise tarfile.ReadError("a sparse entry, which layers do not have")

        _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse

    return Limited
