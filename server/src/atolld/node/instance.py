"""One run of a sandbox, as the node keeps it in memory and as it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import Saved
from atolld.foundation.aio import cancel_and_wait
from atolld.foundation.errors import FailedPrecondition, Internal, NotFound
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Known
from atolld.node.machine import Prepared
from atolld.runtime.driver import Fingerprint, Handle, RuntimeDriver

T = TypeVar("T")


@dataclass(slots=True)
class Instance:
    """One execution: what runs of sandbox `id` from a launch on. Everything of it on the host bears `prepared.id`,
    which is `id` only for the first one, so that the next can stand before the last is gone.

    `layers`: those below its disk; None when the daemon that launched it did not note them. `standing`: it was stopped
    for a save, or may have been. `frozen`: the same for a freeze. `condemned`: it is being ended, or that was tried.
    `has_rehearsed`: it ran a command before it was anybody's. `token`: what its agent wants to hear. `lock` guards what
    stops or changes it; `saves` are those under way or waiting, `saves_begun` how many got that far; `seal` keeps what
    it changed as a layer.
    """

    id: SandboxId
    prepared: Prepared
    driver: RuntimeDriver
    handle: Handle
    resources: Resources
    network: NetworkPolicy
    layers: tuple[Path, ...] | None
    standing: bool = False
    frozen: bool = False
    condemned: bool = False
    has_rehearsed: bool = False
    watcher: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    saves: set[asyncio.Task[Saved]] = field(default_factory=set)
    saves_begun: int = 0
    seal: asyncio.Task[bool] | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def execution(self) -> SandboxId:
        """The id that everything of it on the host bears."""
        return self.prepared.id

    def check_alive(self) -> None:
        """Raises NotFound when it is being ended."""
        if self.condemned:
            raise NotFound(f"sandbox {self.id} is being ended")

    def to_stored(self) -> dict[str, object]:
        """What `Stored.of` reads again."""
        stored: dict[str, object] = {"driver": self.handle.to_json(), "machine": dict(self.prepared.record)}
        if self.layers is not None:
            stored["layers"] = [str(path) for path in self.layers]
        return stored


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored handle, taken apart; `machine` is the record of the surroundings."""

    handle: Handle
    machine: Mapping[str, object]
    layers: tuple[Path, ...] | None

    @staticmethod
    def of(known: Known) -> Stored:
        """Raises Internal when it is damaged."""
        stored = known.handle or {}
        handle, machine, layers = stored.get("driver"), stored.get("machine"), stored.get("layers")
        if not isinstance(handle, dict) or not isinstance(machine, dict):
            raise Internal(f"the stored handle of sandbox {known.id} is damaged")
        paths = tuple(Path(str(path)) for path in layers) if isinstance(layers, list) else None
        return Stored(Handle.from_json(handle), machine, paths)


def machine_record(stored: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The record of the surroundings in a stored handle, None when there is none."""
    record = (stored or {}).get("machine")
    return record if isinstance(record, dict) else None


def engine_of(fingerprint: Fingerprint) -> str:
    """What alone can read the memory that a driver saves: `gvisor 0.0~20240729.0`."""
    return f"{fingerprint.driver} {fingerprint.version}"


async def result_of(task: asyncio.Task[T], ended: str, undo: Callable[[], Awaitable[None]]) -> T:
    """What `task` gives. It may be cancelled by others: FailedPrecondition with the sentence `ended`.

    A caller that goes away cancels it; when it had succeeded all the same, `undo` takes that back.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if task.cancelled() and not (caller and caller.cancelling()):
            raise FailedPrecondition(ended) from None
        await cancel_and_wait(task)
        if not task.cancelled() and task.exception() is None:
            await undo()
        raise
