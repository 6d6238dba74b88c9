"""Creates that are asked for more than once: by a retry with the same key, or by two callers at the same moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.aio import spawn
from atolld.foundation.errors import Conflict, InvalidArgument
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.store import Claim

MAX_KEY = 255
KEPT_S = 24 * 3600.0


@dataclass(slots=True, eq=False)
class Flight:
    """A create in progress and how many callers wait for it.

    `made` is the id it makes. `abandoned`: the last caller has gone away and none was given the result.
    """

    body_sha256: str
    task: asyncio.Task[Sandbox] | None = None
    made: SandboxId | None = None
    waiters: int = 0
    delivered: bool = False
    abandoned: bool = False


class Flights:
    """Creates in progress by key; a create without a key is a flight of its own.

    `on_abandoned(flight)` is called when no caller waits any more: it must see to it that nothing is left.
    """

    def __init__(self, on_abandoned: Callable[[Flight], None]) -> None:
        self._on_abandoned = on_abandoned
        self._by_key: dict[tuple[ProjectId, str], Flight] = {}

    async def fly(
        self,
        project_id: ProjectId,
        claim: Claim | None,
        begin: Callable[[Flight], Coroutine[Any, Any, Sandbox]],
    ) -> Sandbox:
        """The result of `begin(flight)`, or of the one that an earlier caller with the same key began.

        Raises Conflict when that one asks for something else.
        """
        if claim is None:
            return await self._board(self._take_off(Flight(""), begin))
        key = (project_id, claim.key)
        while (earlier := self._by_key.get(key)) is not None and earlier.abandoned:
            # It is being taken down; only then is the key free for a new attempt.
            assert earlier.task is not None
            await asyncio.wait({earlier.task})
        if earlier is not None:
            if earlier.body_sha256 != claim.body_sha256:
                raise Conflict(f"the idempotency key {claim.key[:80]!r} is in use for a different request")
            return await self._board(earlier)
        flight = Flight(claim.body_sha256)
        self._by_key[key] = flight
        self._take_off(flight, begin)
        assert flight.task is not None
        flight.task.add_done_callback(lambda _: self._by_key.pop(key, None))
        return await self._board(flight)

    def _take_off(self, flight: Flight, begin: Callable[[Flight], Coroutine[Any, Any, Sandbox]]) -> Flight:
        flight.task = spawn(begin(flight), name="create", report=False)
        return flight

    async def _board(self, flight: Flight) -> Sandbox:
        assert flight.task is not None
        flight.waiters += 1
        try:
            sandbox = await asyncio.shield(flight.task)
            flight.delivered = True
            return sandbox
        except asyncio.CancelledError:
            if flight.waiters == 1 and not flight.delivered:
                flight.abandoned = True
                flight.task.add_done_callback(_nobody_waits)
                self._on_abandoned(flight)
            raise
        finally:
            flight.waiters -= 1


def _nobody_waits(task: asyncio.Task[Sandbox]) -> None:
    # Its error is only that it was given up; taken here, or the event loop would report it as lost.
    if not task.cancelled():
        task.exception()


def make_claim(key: str | None, spec: SandboxSpec, now: float) -> Claim | None:
    """What an idempotency key stands for; None without one.

    Raises InvalidArgument when the key is not 1 to 255 printable ASCII characters.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise InvalidArgument(f"an idempotency key is 1 to {MAX_KEY} printable ASCII characters, not {key[:80]!r}")
    return Claim(key, body_digest(spec), now - KEPT_S)


def body_digest(spec: SandboxSpec) -> str:
    """SHA-256, in hex, of everything that was asked for."""
    resources = spec.resources
    body = {
        "template": spec.template,
        "runtime": spec.runtime,
        "resources": [resources.cpu, resources.memory_mib, resources.disk_mib, resources.pids_max],
        "timeout_s": spec.timeout_s,
        "envs": dict(spec.envs),
        "metadata": dict(spec.metadata),
        "network": spec.network.to_json(),
        "secure": spec.secure,
        "lifecycle": spec.lifecycle.to_json(),
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()
