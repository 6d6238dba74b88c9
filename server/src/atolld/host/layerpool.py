"""Writable layers prepared ahead, so that a new sandbox waits for a rename and not for a mount."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.host.layers import Layer, Layers

log = logging.getLogger("atolld.layers")

_READY = "ready-"
_RETRY_S = 1.0


class LayerPool:
    """Prepared layers of one size. `disk_mib`: that size. `ready_target`: how many are kept."""

    def __init__(self, layers: Layers, *, disk_mib: int, ready_target: int = 4) -> None:
        self._layers = layers
        self._disk_mib = disk_mib
        self._ready_target = ready_target
        self._ready: list[Layer] = []
        self._numbers = itertools.count()
        self._refill: asyncio.Task[None] | None = None
        self._open = False

    @property
    def ready(self) -> int:
        """How many prepared layers are waiting."""
        return len(self._ready)

    async def start(self, keep: Collection[str]) -> None:
        """Destroy every layer of the instance whose id is not in `keep`, then begin to prepare new ones.

        A layer that is still in use (by an overlay not yet unmounted) is left and logged. Raises OSError.
        """
        self._layers.prepare()
        for layer in self._layers.list_owned():
            if layer.id not in keep:
                try:
                    await self._layers.destroy(layer)
                except OSError as error:
                    log.warning("leftover layer %s cannot be removed: %s", layer.id, error)
        self._open = True
        self._wake_refill()

    async def acquire(self, id: str, disk_mib: int) -> Layer:
        """A mounted empty layer named `id`: a prepared one (0.1 ms) when the size is the pool's, else a new one.

        Raises AlreadyExists, InvalidArgument, OSError.
        """
        if disk_mib == self._disk_mib and self._ready:
            prepared = self._ready.pop(0)
            try:
                return self._layers.rename(prepared, id)
            except BaseException:
                self._ready.append(prepared)
                raise
            finally:
                self._wake_refill()
        return await self._layers.create(id, disk_mib)

    async def close(self) -> None:
        """Stop preparing and destroy what is prepared. Raises OSError."""
        self._open = False
        await cancel_and_wait(self._refill)
        while self._ready:
            await self._layers.destroy(self._ready.pop())

    def _wake_refill(self) -> None:
        if self._open and (self._refill is None or self._refill.done()):
            self._refill = spawn(self._fill(), name="layer-refill")

    async def _fill(self) -> None:
        while self._open and len(self._ready) < self._ready_target:
            try:
                self._ready.append(await self._layers.create(f"{_READY}{next(self._numbers)}", self._disk_mib))
            except OSError as error:
                log.warning("cannot prepare a writable layer, trying again in %.0f s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)
