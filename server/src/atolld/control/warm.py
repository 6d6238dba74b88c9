"""The sandboxes that wait in one warm pool, and the task that keeps them there."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from dataclasses import dataclass

from atolld.control.starts import Start, Starts
from atolld.core.network import NetworkPolicy
from atolld.core.pool import Pool
from atolld.core.sandbox import SandboxSpec
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AtollError, Capacity, NotFound
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.node.interface import Launch, Launched, Node

log = logging.getLogger("atolld.control")

FULL_RETRY_S = 5.0
LONGEST_RETRY_S = 60.0
# Starting a sandbox takes a core from whoever was just given one, or is about to be.
QUIET_S = 0.25
LONGEST_QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Warm:
    """One that waits. `agent_token` is what its agent knows; nobody else does until it is claimed."""

    id: SandboxId
    agent_token: str
    launched: Launched
    start: Start


class WarmPool:
    """Keeps `pool.ready` sandboxes waiting, made one at a time: whoever waits for a sandbox comes first."""

    def __init__(self, pool: Pool, starts: Starts, node: Node, clock: Clock) -> None:
        self.pool = pool
        self.claims = 0
        self.misses = 0
        self.starting = 0
        self.message: str | None = None
        # What `pool.template` meant when that was last looked up.
        self.version: str | None = None
        self._starts = starts
        self._node = node
        self._clock = clock
        self._waiting: list[Warm] = []
        self._changed = asyncio.Event()
        self._taken_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    @property
    def warm(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to fill."""
        self._task = spawn(self._fill(), name=f"pool-{self.pool.id}")

    def resize(self, pool: Pool) -> None:
        """Another `ready`."""
        self.pool = pool
        self._changed.set()

    def refresh(self) -> None:
        """What its template means may have changed: what waits of an older version is to be replaced."""
        self._changed.set()

    def take(self, version: str) -> Warm | None:
        """Of those of this version the one that has waited longest, or None; a new one is made in its place once no
        more are being taken."""
        for warm in self._waiting:
            if warm.start.version == version:
                self._waiting.remove(warm)
                self._taken_at = self._clock.monotonic()
                self._changed.set()
                return warm
        return None

    def lose(self, id: SandboxId) -> bool:
        """Forget one that died; False when none of these has this id."""
        for warm in self._waiting:
            if warm.id == id:
                self._waiting.remove(warm)
                self._changed.set()
                return True
        return False

    async def evict(self) -> bool:
        """End one to make room for a sandbox that somebody waits for; False when none waits."""
        if not self._waiting:
            return False
        self.message = "the machine has no room for more"
        await self._node.terminate(self._waiting.pop().id)
        return True

    async def stop(self) -> None:
        """End filling, and all that waits."""
        await cancel_and_wait(self._task)
        self._task = None
        waiting, self._waiting = self._waiting, []
        await asyncio.gather(*(self._node.terminate(warm.id) for warm in waiting), return_exceptions=True)

    async def _fill(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            try:
                await self._drop_surplus()
                while self.warm < self.pool.ready:
                    self._waiting.append(await self._make())
                    self.message, failures = None, 0
            except Capacity as error:
                self.message = error.message
                await self._pause(FULL_RETRY_S)
                continue
            except Exception as error:
                self.message = error.message if isinstance(error, AtollError) else repr(error)
                log.warning("pool %s cannot be filled: %s", self.pool.id, self.message)
                failures += 1
                await self._pause(min(LONGEST_RETRY_S, 2.0**failures))
                continue
            await self._changed.wait()
            await self._until_quiet()

    async def _until_quiet(self) -> None:
        """Return when none was taken for a moment; at the latest 2 s from now."""
        latest = self._clock.monotonic() + LONGEST_QUIET_S
        while (rest_s := min(self._taken_at + QUIET_S, latest) - self._clock.monotonic()) > 0:
            await self._clock.sleep(rest_s)

    async def _pause(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def _drop_surplus(self) -> None:
        """End those that are too many, and those of a template that was built anew, or deleted, since."""
        try:
            start, _ = await self._starts.find(self.pool.project_id, self._spec())
        except NotFound:
            # Nobody can ask for it any more; the pool waits until there is one of that name again.
            self.version = None
            await self._drop_others()
            raise
        self.version = start.version
        await self._drop_others()
        while self.warm > self.pool.ready:
            await self._node.terminate(self._waiting.pop().id)

    async def _drop_others(self) -> None:
        for warm in [one for one in self._waiting if one.start.version != self.version]:
            self._waiting.remove(warm)
            await self._node.terminate(warm.id)

    async def _make(self) -> Warm:
        start, spec = await self._starts.find(self.pool.project_id, self._spec())
        id, token = new_sandbox_id(), secrets.token_urlsafe(32)
        self.starting += 1
        try:
            launched = await self._node.launch(
                Launch(
                    id=id,
                    runtime=spec.runtime,
                    layers=start.layers,
                    resources=spec.resources,
                    network=NetworkPolicy(),
                    envs=start.defaults.envs,
                    agent_token=token,
                    template_id=start.template_id,
                    hostname=id,
                    source=start.source,
                    user=start.defaults.user,
                    workdir=start.defaults.workdir,
                )
            )
            try:
                await self._node.stand_by(id)
            except BaseException:
                await self._node.terminate(id)
                raise
        finally:
            self.starting -= 1
        return Warm(id, token, launched, start)

    def _spec(self) -> SandboxSpec:
        return SandboxSpec(self.pool.template, self.pool.runtime, self.pool.resources)
