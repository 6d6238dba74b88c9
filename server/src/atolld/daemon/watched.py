"""The node as control sees it, with the gateway told of every end of a sandbox's connections, and cores kept awake for
what somebody waits for.

A sandbox that is gone sends no FIN: its kernel and its network namespace have vanished. One that was saved has dropped
its connections without a word, and a frozen one keeps those and answers nothing. Whoever holds a stream to it must be
told from this side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from atolld.core.network import NetworkPolicy
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.interface import (
    Admit,
    After,
    Claim,
    Death,
    DeathListener,
    Known,
    Launch,
    Launched,
    Node,
    NodeCapacity,
    Usage,
)
from atolld.runtime.driver import Fingerprint


class WatchedNode:
    """Passes everything on to `node`; `ended(id)` is called when a sandbox is gone, however that came.

    `interrupting(id)` is called when saving or freezing ends the connections to it, and what it returns afterwards:
    those that were open at the first call are of no use any more, those made in between are. `busy()` is entered for
    as long as a guest is started, brought back, saved, frozen or ended.
    """

    def __init__(
        self,
        node: Node,
        ended: Callable[[SandboxId], None],
        interrupting: Callable[[SandboxId], Callable[[], None]],
        busy: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._node = node
        self._ended = ended
        self._interrupting = interrupting
        self._busy = busy

    async def start(self, on_death: DeathListener) -> None:
        """See `Node.start`."""

        async def died(death: Death) -> None:
            self._ended(death.id)
            await on_death(death)

        await self._node.start(died)

    async def terminate(self, id: SandboxId, grace_s: float = 0.0, *, keep_address: bool = False) -> None:
        """See `Node.terminate`."""
        try:
            with self._busy():
                await self._node.terminate(id, grace_s, keep_address=keep_address)
        finally:
            self._ended(id)

    async def seal(
        self, id: SandboxId, digest: str, manifest: Mapping[str, object], *, forbidden: Sequence[str] = ()
    ) -> bool:
        """See `Node.seal`."""
        try:
            return await self._node.seal(id, digest, manifest, forbidden=forbidden)
        finally:
            self._ended(id)

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        return await self._node.fingerprints()

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`."""
        with self._busy():
            return await self._node.launch(what)

    async def recover(
        self, known: list[Known], paused: Mapping[SandboxId, Mapping[str, object]] | None = None
    ) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        return await self._node.recover(known, paused)

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """See `Node.save`."""
        with self._busy():
            if kind is SaveKind.FILESYSTEM and after is After.GO_ON:
                return await self._node.save(id, save_id, kind, after)
            # One that goes on takes new connections long before its save is whole.
            cut = self._interrupting(id)
            try:
                return await self._node.save(id, save_id, kind, after)
            finally:
                # A save that failed late has ended them as well; one that stands, those that came meanwhile too.
                if after is After.STAND:
                    self._interrupting(id)()
                cut()

    async def go_on(self, id: SandboxId) -> None:
        """See `Node.go_on`."""
        with self._busy():
            await self._node.go_on(id)

    async def freeze(self, id: SandboxId) -> None:
        """See `Node.freeze`."""
        with self._busy():
            await self._node.freeze(id)
        self._interrupting(id)()

    async def thaw(self, id: SandboxId) -> None:
        """See `Node.thaw`."""
        with self._busy():
            await self._node.thaw(id)

    async def stand_by(self, id: SandboxId) -> None:
        """See `Node.stand_by`."""
        await self._node.stand_by(id)

    async def claim(self, id: SandboxId, what: Claim) -> None:
        """See `Node.claim`."""
        with self._busy():
            await self._node.claim(id, what)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """See `Node.saved`."""
        return await self._node.saved(save_id)

    async def discard_save(self, save_id: SnapshotId) -> None:
        """See `Node.discard_save`."""
        await self._node.discard_save(save_id)

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """See `Node.sweep_saves`."""
        return await self._node.sweep_saves(keep)

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Node.diff_saves`."""
        return await self._node.diff_saves(older, newer, limit)

    def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncIterator[bytes]:
        """See `Node.export_save`."""
        return self._node.export_save(save_id, facts)

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Node.import_save`."""
        return await self._node.import_save(save_id, stream, admit)

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
