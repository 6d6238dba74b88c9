"""The sandbox that one step of a build runs in.

It has no row: the database does not know it, no user sees it, and the recovery of the next daemon removes it. What it
is launched with is not secret from the step, and what must stay out of the layer lies where no layer is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atolld.control.builds.lent import Lender, Lent, Nothing
from atolld.control.telemetry import Telemetry
from atolld.core.build import BuildSpec
from atolld.core.network import NetworkPolicy
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import Capacity, GuestUnreachable, Internal
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.node.interface import Death, Launch, Launched, Node

ROOM_PATIENCE_S = 120.0
_ROOM_PAUSE_S = 2.0

# The stream ("stdout" or "stderr"), and what came.
OnOutput = Callable[[str, bytes], None]
Stdin = str | AsyncIterator[bytes] | None


class Guest(Protocol):
    """What a build does in its sandbox; `atolld.guest.commands` does it through the agent."""

    async def run(
        self,
        address: str,
        token: str,
        argv: tuple[str, ...],
        *,
        user: str,
        cwd: str | None,
        envs: Mapping[str, str],
        stdin: Stdin,
        on_output: OnOutput,
    ) -> int:
        """The command's exit code, -1 when a signal ended it; ended itself when the caller is cancelled.

        Raises GuestUnreachable, InvalidArgument (no such user or directory).
        """
        ...

    async def write(self, address: str, token: str, path: str, contents: bytes, user: str) -> None:
        """A new file of `user`'s, with its directories. Raises GuestUnreachable, InvalidArgument, Capacity."""
        ...

    async def remove(self, address: str, token: str, path: str) -> None:
        """Remove a file or a directory with all in it; gone is success. Raises GuestUnreachable."""
        ...


@dataclass(slots=True)
class StepSandbox:
    """One that runs. `sealed`: it is gone."""

    id: SandboxId
    token: str
    launched: Launched
    guest: Guest
    node: Node
    lent: Lent
    dead: Callable[[SandboxId], Death | None]
    sealed: bool = False

    @property
    def address(self) -> str:
        """Where its agent answers."""
        return self.launched.address

    async def run(
        self,
        argv: tuple[str, ...],
        *,
        user: str,
        cwd: str | None,
        envs: Mapping[str, str],
        on_output: OnOutput,
        stdin: Stdin = None,
    ) -> int:
        """See `Guest.run`; when the sandbox dies meanwhile, Internal with what killed it."""
        told = {**self.lent.envs, **envs}
        try:
            return await self.guest.run(
                self.address, self.token, argv, user=user, cwd=cwd, envs=told, stdin=stdin, on_output=on_output
            )
        except GuestUnreachable as error:
            death = self.dead(self.id)
            if death is not None:
                raise Internal(f"the sandbox of this step ended: {death.message}") from error
            raise

    async def write(self, path: str, contents: bytes, user: str = "root") -> None:
        """See `Guest.write`."""
        await self.guest.write(self.address, self.token, path, contents, user)

    async def remove(self, path: str) -> None:
        """See `Guest.remove`."""
        await self.guest.remove(self.address, self.token, path)

    async def seal(self, digest: str, manifest: Mapping[str, object]) -> None:
        """End it and keep what it changed, if it did, as the layer `digest`. Raises as `Node.seal`."""
        try:
            await self.node.seal(self.id, digest, manifest, forbidden=self.lent.forbidden)
        finally:
            # It is gone in any case.
            self.sealed = True


class StepSandboxes:
    """Makes them. `lender` gives what the host lends to builds."""

    def __init__(self, node: Node, guest: Guest, lender: Lender, clock: Clock, telemetry: Telemetry) -> None:
        self._node = node
        self._guest = guest
        self._lender = lender
        self._clock = clock
        self._telemetry = telemetry
        self._deaths: dict[SandboxId, Death | None] = {}

    def lost(self, death: Death) -> bool:
        """Take note of one that died; False when it is none of these."""
        if death.id not in self._deaths:
            return False
        self._deaths[death.id] = death
        return True

    @asynccontextmanager
    async def open(
        self,
        spec: BuildSpec,
        layers: tuple[Path, ...],
        *,
        template_id: str,
        user: str = "root",
        workdir: str | None = None,
        envs: Mapping[str, str] | None = None,
        network: bool = True,
        lend: bool = True,
    ) -> AsyncIterator[StepSandbox]:
        """One over `layers`, whose agent answers; ended when the block is left, unless it was sealed.

        `envs`: of all its processes. `network` False: it reaches nothing. `lend` False: nothing of the host's.
        Waits two minutes for room on the machine, when there can be any. Raises as `Node.launch`.
        """
        id, token = new_sandbox_id(), secrets.token_urlsafe(32)
        lent: Lent = await self._lender.for_sandbox(layers) if network and lend else Nothing()
        policy = lent.network if network else NetworkPolicy(internet=False)
        what = Launch(
            id=id,
            runtime=spec.runtime,
            layers=layers,
            resources=spec.resources,
            network=policy,
            envs=dict(envs or {}),
            agent_token=token,
            template_id=template_id,
            hostname="build",
            user=user,
            workdir=workdir,
        )
        self._deaths[id] = None
        self._telemetry.count("build_sandboxes", {"runtime": spec.runtime})
        try:
            launched = await self._launch(what)
            one = StepSandbox(id, token, launched, self._guest, self._node, lent, self._deaths.get)
            try:
                for path, contents in lent.files.items():
                    await one.write(path, contents)
                yield one
            finally:
                if not one.sealed:
                    await self._end(id)
        finally:
            del self._deaths[id]

    async def _launch(self, what: Launch) -> Launched:
        deadline = self._clock.monotonic() + ROOM_PATIENCE_S
        while True:
            try:
                return await self._node.launch(what)
            except Capacity:
                if self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(_ROOM_PAUSE_S)

    async def _end(self, id: SandboxId) -> None:
        # To its end, also when the build is cancelled: nobody else knows this sandbox.
        await asyncio.shield(spawn(self._node.terminate(id), name=f"end-build-{id}"))
