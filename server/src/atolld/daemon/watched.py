"""The node as control sees it, with the gateway told of every end.

A sandbox that is gone sends no FIN: its kernel and its network namespace have vanished. Whoever holds a stream to it
must be told from this side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atolld.core.network import NetworkPolicy
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Death, DeathListener, Known, Launch, Launched, Node, NodeCapacity, Usage
from atolld.runtime.driver import Fingerprint


class WatchedNode:
    """Passes everything on to `node`; `ended(id)` is called when a sandbox is gone, however that came."""

    def __init__(self, node: Node, ended: Callable[[SandboxId], None]) -> None:
        self._node = node
        self._ended = ended

    async def start(self, on_death: DeathListener) -> None:
        """See `Node.start`."""

        async def died(death: Death) -> None:
            self._ended(death.id)
            await on_death(death)

        await self._node.start(died)

    async def terminate(self, id: SandboxId, grace_s: float = 0.0) -> None:
        """See `Node.terminate`."""
        try:
            await self._node.terminate(id, grace_s)
        finally:
            self._ended(id)

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        return await self._node.fingerprints()

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`."""
        return await self._node.launch(what)

    async def recover(self, known: list[Known]) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        return await self._node.recover(known)

    async def usage(self, id: SandboxId) -> Usage:
        """See `Node.usage`."""
        return await self._node.usage(id)

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        await self._node.set_network(id, policy)

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """See `Node.logs`."""
        return await self._node.logs(id, limit_bytes)

    def capacity(self) -> NodeCapacity:
        """See `Node.capacity`."""
        return self._node.capacity()

    def gauges(self) -> Mapping[str, float]:
        """See `Node.gauges`."""
        return self._node.gauges()

    async def close(self) -> None:
        """See `Node.close`."""
        await self._node.close()
