"""Layers of images in the layer store: found by what their tars hold, unpacked when they are missing.

A layer is stored under its diff id, the SHA-256 of its uncompressed tar, so that images share it however it was
compressed. One whose files depend on the layers below (see `Tree`) is stored under a digest of its whole chain.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from atolld.foundation.aio import to_the_end
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import InvalidArgument
from atolld.images.decompress import open_layer
from atolld.images.imagestore import ImageStore
from atolld.images.layers import Layer, LayerStore
from atolld.images.locks import exclusive
from atolld.images.unpack import RESERVE_BYTES, unpack

# Of each kind of source; they share the disk and the processors with the sandboxes.
PARALLEL = 2


@dataclass(frozen=True, slots=True)
class LayerId:
    """One layer of an image, and all below it as `chain`, a digest."""

    diff_id: str
    chain: str

    @property
    def plain(self) -> str:
        """Its digest in the store when it depends on nothing."""
        return self.diff_id.removeprefix("sha256:")


def chain_of(diff_ids: Sequence[str]) -> list[LayerId]:
    """The layers of an image, the lowest first."""
    found: list[LayerId] = []
    below = ""
    for diff_id in diff_ids:
        below = hashlib.sha256(f"atoll image layer\n{below}\n{diff_id}".encode()).hexdigest()
        found.append(LayerId(diff_id, below))
    return found


def naming(cache: Path) -> AbstractAsyncContextManager[None]:
    """While it is entered, nobody else records an image, or drops a layer that one might name. For moments."""
    (cache / "images").mkdir(mode=0o700, parents=True, exist_ok=True)
    return exclusive(cache / "images" / "records.lock")


class ImageLayers:
    """Over the layers of one cache. A few are unpacked at once, and nothing but that waits for it."""

    def __init__(self, cache: Path, clock: Clock | None = None, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._cache = cache
        self._store = LayerStore(cache)
        self._images = ImageStore(cache)
        self._clock = clock or SystemClock()
        self._reserve_bytes = reserve_bytes
        self._slots = asyncio.Semaphore(PARALLEL)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def find(self, id: LayerId) -> Layer | None:
        """The layer when it is there."""
        return self._store.get(id.plain) or self._store.get(id.chain)

    def has(self, digest: str) -> bool:
        """Whether the store has the layer called so."""
        return self._store.get(digest) is not None

    async def add(self, id: LayerId, blob: Path, below: Sequence[Layer]) -> tuple[Layer, bool]:
        """Unpack the file `blob` over the layers `below`, the lowest first; and whether it was not there before.

        Raises InvalidArgument (refused, or the contents are not those of the diff id), Capacity, FailedPrecondition
        (no `zstd` here), OSError; nothing is left then. FileNotFoundError: `blob` is gone.
        """
        self._store.directory.mkdir(parents=True, exist_ok=True)
        # The same layer by one of ours at a time; by another daemon at once, the first wins.
        turn = self._turns.setdefault(id.chain, asyncio.Lock())
        async with turn, self._slots:
            if (layer := self.find(id)) is not None:
                return layer, False
            stop = threading.Event()
            work = asyncio.to_thread(self._unpack, id, blob, below, stop)
            return await to_the_end(work, name="unpack-layer", on_cancel=stop.set), True

    def _unpack(self, id: LayerId, blob: Path, below: Sequence[Layer], stop: threading.Event) -> Layer:
        # Of a daemon that was killed.
        self._store.remove_leftovers()
        building = self._store.begin()
        # What is set-user-id in it would be so for every user of the host who could reach it.
        building.chmod(0o700)
        try:
            lower = [layer.root for layer in reversed(below)]
            with open_layer(blob) as stream:
                done = unpack(stream, building / "root", lower, reserve_bytes=self._reserve_bytes, stop=stop)
                found = stream.drain()
            if found != id.diff_id:
                raise InvalidArgument(f"a layer's contents are {found}, not {id.diff_id} as its image says")
            manifest = {"built_at": self._clock.now(), "diff_id": id.diff_id, "entries": done.entries}
            return self._store.commit(building, id.chain if done.depends else id.plain, manifest)
        except BaseException:
            self._store.abandon(building)
            raise

    async def drop(self, digests: Collection[str]) -> None:
        """Remove those of `digests` that no image names and nothing uses."""
        async with naming(self._cache):
            await asyncio.to_thread(self._drop, digests)

    def _drop(self, digests: Collection[str]) -> None:
        kept = self._images.layer_digests() | self._store.layers_in_use()
        for digest in digests:
            if digest not in kept:
                self._store.drop(digest, self._clock.now())
