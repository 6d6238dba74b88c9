"""The sandboxes that have not ended, in memory: what the gateway and every `get` are answered from.

This process is the only writer of its database, so memory is as true as the rows, and each change is written there
first. `Live.sandbox` is replaced only while `Live.lock` is held.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from atolld.control.samples import SampleRing
from atolld.core.lifecycle import ACTIVE_STATES, EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import AtollError, FailedPrecondition, NotFound
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.node.interface import Death, Launched

_REACHABLE = ACTIVE_STATES | {SandboxState.PAUSED, SandboxState.RESUMING}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a sandbox's agent answers, for whom, and what its ports ask of who comes from outside.

    `allow_public_traffic` False: `traffic_token` must be sent to reach a port. `secure` False: the agent's token is put
    into requests that come without one. `mask_request_host`: see `NetworkPolicy`. `address` is empty while it is paused
    or being resumed. `auto_resume`: whether a request may resume it.
    """

    address: str
    agent_token: str
    project_id: ProjectId
    state: SandboxState
    allow_public_traffic: bool = True
    traffic_token: str | None = None
    mask_request_host: str | None = None
    secure: bool = True
    auto_resume: bool = True


@dataclass(frozen=True, slots=True)
class Abort:
    """Why a create is to be given up."""

    reason: EndReason
    message: str


@dataclass(slots=True, eq=False)
class Live:
    """One live sandbox.

    `gone` is set when it has ended, `settled` when its create has returned or raised. `launch` is the node's work while
    it is being created; `abort` and `death` tell the create that it must not go on. `ending` is the present attempt to
    take it down, `retrying` that further ones follow by themselves. `moving` is a pause or a resume under way.
    `freezing`: it is about to be frozen, so nothing new may reach it without asking for it to be woken. `woken_at`:
    when it was last started, resumed or thawed, on the monotonic clock.
    """

    sandbox: Sandbox
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    launch: asyncio.Task[Launched] | None = None
    abort: Abort | None = None
    death: Death | None = None
    ending: asyncio.Task[None] | None = None
    retrying: bool = False
    moving: asyncio.Task[None] | None = None
    freezing: bool = False
    woken_at: float = 0.0
    from_pool: bool = False
    phases_s: Mapping[str, float] = field(default_factory=dict)
    samples: SampleRing = field(default_factory=SampleRing)

    @property
    def id(self) -> SandboxId:
        """Its id."""
        return self.sandbox.id

    @property
    def state(self) -> SandboxState:
        """Its state, as last written."""
        return self.sandbox.state

    def update(self, **changes: object) -> Sandbox:
        """Replace fields of the sandbox, after they were written; returns the new value."""
        self.sandbox = replace(self.sandbox, **changes)  # type: ignore[arg-type]
        return self.sandbox

    def give_up(self, reason: EndReason, message: str) -> None:
        """Tell the create in progress to stop and clean up; the first reason counts."""
        if self.abort is None:
            self.abort = Abort(reason, message)
        if self.launch is not None:
            self.launch.cancel()


class LiveTable:
    """Every live sandbox by id."""

    def __init__(self) -> None:
        self._all: dict[SandboxId, Live] = {}
        self._by_token: dict[bytes, SandboxId] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._all.values()))

    def add(self, live: Live) -> None:
        """Enter a sandbox."""
        self._all[live.id] = live
        self._by_token[_digest(live.sandbox.agent_token)] = live.id

    def remove(self, live: Live) -> None:
        """Take out a sandbox that has ended and wake who waits for that."""
        self._all.pop(live.id, None)
        self._by_token.pop(_digest(live.sandbox.agent_token), None)
        live.gone.set()

    def find(self, id: SandboxId) -> Live | None:
        """The sandbox, if it is live."""
        return self._all.get(id)

    def by_token(self, agent_token: str) -> SandboxId | None:
        """The sandbox whose agent has this token."""
        return self._by_token.get(_digest(agent_token))

    def agent_tokens(self) -> list[tuple[SandboxId, str]]:
        """Id and agent's token of every sandbox that answers, or will when it is woken."""
        return [(live.id, live.sandbox.agent_token) for live in self._all.values() if live.state in _REACHABLE]

    def get(self, project_id: ProjectId, id: SandboxId) -> Live:
        """Raises NotFound when it is not live or not of this project: a caller cannot tell which."""
        live = self._all.get(id)
        if live is None or live.sandbox.project_id != project_id:
            raise gone(id)
        return live

    def running(self, project_id: ProjectId | None = None) -> list[Live]:
        """Those that run, of one project or of all."""
        return [
            live
            for live in self._all.values()
            if live.state is SandboxState.RUNNING and project_id in (None, live.sandbox.project_id)
        ]

    def endpoint(self, id: SandboxId) -> Endpoint | None:
        """Where it is reached; None when it is not live or was never up."""
        live = self._all.get(id)
        if live is None or (live.sandbox.address is None and live.state not in _REACHABLE):
            return None
        sandbox, network = live.sandbox, live.sandbox.spec.network
        return Endpoint(
            address=sandbox.address or "",
            agent_token=sandbox.agent_token,
            project_id=sandbox.project_id,
            state=SandboxState.FROZEN if live.freezing else sandbox.state,
            allow_public_traffic=network.allow_public_traffic,
            traffic_token=sandbox.traffic_token,
            mask_request_host=network.mask_request_host,
            secure=sandbox.spec.secure,
            auto_resume=sandbox.spec.lifecycle.auto_resume,
        )

    def counts(self) -> dict[tuple[SandboxState, str], int]:
        """How many there are by state and runtime."""
        counts: dict[tuple[SandboxState, str], int] = {}
        for live in self._all.values():
            key = (live.state, live.sandbox.spec.runtime)
            counts[key] = counts.get(key, 0) + 1
        return counts


def _digest(token: str) -> bytes:
    # Looked up by its hash, so that the time a look-up takes tells nothing about a token.
    return hashlib.sha256(token.encode()).digest()


def gone(id: SandboxId) -> NotFound:
    """The error for a sandbox that is not there for its caller."""
    return NotFound(f"there is no sandbox {id}: it never was, has ended, or belongs to another project")


def running(live: Live) -> Sandbox:
    """The sandbox, which runs or is frozen. Raises the error of `not_in_state` otherwise."""
    if live.state in (SandboxState.RUNNING, SandboxState.FROZEN):
        return live.sandbox
    raise not_in_state(live, "must be running for this")


def not_in_state(live: Live, what: str) -> AtollError:
    """The error for a sandbox whose state does not allow `what` ("cannot be paused")."""
    state = live.state
    if state is SandboxState.CREATING:
        return FailedPrecondition(
            f"sandbox {live.id} is still being created; wait until it is running", state=state.value
        )
    if state in (SandboxState.STOPPING, SandboxState.ENDED):
        return gone(live.id)
    return FailedPrecondition(f"sandbox {live.id} is {state.value} and {what}", state=state.value)
