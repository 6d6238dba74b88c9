"""How much one layer may have, and how much of the disk it leaves to others: counted while it is filled."""

from __future__ import annotations

import threading

from atolld.foundation.errors import AtollError
from atolld.foundation.units import MIB, format_bytes
from atolld.images.unpack import MAX_DIRECTORIES, MAX_ENTRIES, RESERVE_BYTES, Cancelled, check_room

MAX_BYTES = 32 << 30
_CHECK_EVERY_BYTES = 32 * MIB
_CHECK_EVERY_ENTRIES = 2_000


class LayerBudget:
    """For a layer below the directory `root`. `refusal`: what more than the bounds raises.

    Each method raises that, Capacity when less than `reserve_bytes` would be left on the disk, Cancelled after `stop`.
    """

    def __init__(
        self,
        root: int,
        refusal: type[AtollError],
        reserve_bytes: int = RESERVE_BYTES,
        stop: threading.Event | None = None,
    ) -> None:
        self._root = root
        self._refusal = refusal
        self._reserve_bytes = reserve_bytes
        self.stop = stop
        self._directories = 0
        self._bytes = 0
        self._unchecked_bytes = 0
        self.entries = 0

    def entry(self) -> None:
        """One more file, link or directory."""
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise self._refusal(f"a layer has at most {MAX_ENTRIES} files, and this is more")
        if self.entries % _CHECK_EVERY_ENTRIES == 0:
            self.check()

    def directory(self) -> None:
        """One of the entries is a directory."""
        self._directories += 1
        if self._directories > MAX_DIRECTORIES:
            raise self._refusal(f"a layer has at most {MAX_DIRECTORIES} directories, and this is more")

    def file(self, size_bytes: int) -> None:
        """A file of that size is begun."""
        self._bytes += size_bytes
        if self._bytes > MAX_BYTES:
            raise self._refusal(f"a layer holds at most {format_bytes(MAX_BYTES)}, and this is more")

    def written(self, count: int) -> None:
        """So many bytes more are on the disk."""
        self._unchecked_bytes += count
        if self._unchecked_bytes >= _CHECK_EVERY_BYTES:
            self.check()

    def check(self) -> None:
        """Look whether to go on."""
        if self.stop is not None and self.stop.is_set():
            raise Cancelled
        self._unchecked_bytes = 0
        check_room(self._root, self._reserve_bytes)
