"""Warm pools: running sandboxes kept ready to be claimed.

What waits is known in memory only: it belongs to nobody yet, and the next daemon ends it and fills its pools anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from atolld.control.powers import Powers
from atolld.control.starts import Starts
from atolld.control.telemetry import Telemetry
from atolld.control.warm import Warm, WarmPool
from atolld.core.pool import Pool
from atolld.core.sandbox import Resources, SandboxSpec
from atolld.foundation.clock import Clock
from atolld.foundation.ids import PoolId, ProjectId, SandboxId, new_pool_id
from atolld.node.interface import Node
from atolld.storage.store import PoolStore


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as it stands.

    `warm`: ready to be claimed; `starting`: on their way. `claims` and `misses`: creates since the daemon's start that
    found one, and that did not and became ordinary creates. `message`: why it is not full, when it cannot be.
    """

    pool: Pool
    warm: int
    starting: int
    claims: int
    misses: int
    message: str | None = None


class Pools:
    """The pools of all projects."""

    def __init__(
        self, *, store: PoolStore, starts: Starts, powers: Powers, node: Node, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._starts = starts
        self._powers = powers
        self._node = node
        self._clock = clock
        self._telemetry = telemetry
        self._all: dict[PoolId, WarmPool] = {}
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Fill what is stored, in the background."""
        for pool in await self._store.list(None):
            self._open(pool)

    async def stop(self) -> None:
        """End all that waits."""
        pools, self._all = list(self._all.values()), {}
        await asyncio.gather(*(pool.stop() for pool in pools))

    async def set(
        self, project_id: ProjectId, template: str, runtime: str, resources: Resources, ready: int
    ) -> PoolStatus:
        """Keep `ready` sandboxes waiting from now on (0: none, the pool stays known). It fills in the background.

        Raises InvalidArgument, NotFound (template, runtime).
        """
        spec = SandboxSpec(template, runtime, resources)
        spec.check()
        _, spec = await self._starts.find(project_id, spec)
        await self._powers.known(spec.runtime)
        wanted = Pool(new_pool_id(), project_id, template, spec.runtime, spec.resources, ready, self._clock.now())
        wanted.check()
        async with self._changing:
            stored = await self._store.put(wanted)
            if stored.id in self._all:
                self._all[stored.id].resize(stored)
            else:
                self._open(stored)
        return _status(self._all[stored.id])

    async def list(self, project_id: ProjectId) -> Sequence[PoolStatus]:
        """Oldest first."""
        return [self._status_of(pool) for pool in await self._store.list(project_id)]

    async def get(self, project_id: ProjectId, id: PoolId) -> PoolStatus:
        """Raises NotFound."""
        return self._status_of(await self._store.get(project_id, id))

    async def delete(self, project_id: ProjectId, id: PoolId) -> None:
        """End what waits in it and forget it. Raises NotFound."""
        async with self._changing:
            await self._store.delete(project_id, id)
            pool = self._all.pop(id, None)
        if pool is not None:
            await pool.stop()

    def take(self, project_id: ProjectId, spec: SandboxSpec, version: str) -> Warm | None:
        """A sandbox that can become what `spec` asks for; None when no pool of the project has one. `version`: what its
        template means now (`Start.version`), by whichever of its names."""
        fitting = [
            pool
            for pool in self._all.values()
            if pool.pool.project_id == project_id
            and pool.pool.fits(spec.runtime, spec.resources)
            and (pool.version == version or pool.pool.template == spec.template)
        ]
        # One whose CPU is right already, before one that has to be changed.
        fitting.sort(key=lambda pool: pool.pool.resources != spec.resources)
        for pool in fitting:
            warm = pool.take(version)
            if warm is not None:
                pool.claims += 1
                self._telemetry.count("pool_claims", {"outcome": "hit"})
                return warm
        for pool in fitting[:1]:
            pool.misses += 1
            self._telemetry.count("pool_claims", {"outcome": "miss"})
        return None

    async def give_up(self, warm: Warm) -> None:
        """End one that was taken and could not be used."""
        await self._node.terminate(warm.id)

    def refresh(self) -> None:
        """What templates mean may have changed."""
        for pool in self._all.values():
            pool.refresh()

    def lost(self, id: SandboxId) -> bool:
        """One has died; True when it waited in a pool."""
        return any(pool.lose(id) for pool in self._all.values())

    async def make_room(self) -> bool:
        """End one that waits, of whichever pool has most; False when none waits anywhere."""
        for pool in sorted(self._all.values(), key=lambda one: one.warm, reverse=True):
            if await pool.evict():
                return True
        return False

    def gauges(self) -> dict[str, float]:
        """How many wait, for `/metrics`."""
        return {"pool_sandboxes_warm": float(sum(pool.warm for pool in self._all.values()))}

    def _open(self, pool: Pool) -> None:
        opened = self._all[pool.id] = WarmPool(pool, self._starts, self._node, self._clock)
        opened.start()

    def _status_of(self, pool: Pool) -> PoolStatus:
        opened = self._all.get(pool.id)
        return PoolStatus(pool, 0, 0, 0, 0) if opened is None else _status(opened)


def _status(pool: WarmPool) -> PoolStatus:
    return PoolStatus(pool.pool, pool.warm, pool.starting, pool.claims, pool.misses, pool.message)
