"""Connections to each sandbox: idle ones kept for the next request, busy ones known so that they can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from atolld.foundation.errors import GuestUnreachable, PortNotOpen
from atolld.foundation.ids import SandboxId
from atolld.gateway.dial import Refused, dial
from atolld.gateway.directory import Endpoint
from atolld.gateway.errors import SandboxEnded
from atolld.gateway.route import AGENT_PORT
from atolld.gateway.upstream import UpstreamConnection

MAX_IDLE = 8
# Shorter than the agent's own patience, so that a kept connection is not closed under a request.
IDLE_S = 20.0
# A program may serve one connection at a time, and close it when it likes.
PORT_IDLE_S = 1.0

Kept = list[tuple[UpstreamConnection, asyncio.TimerHandle]]


@dataclass(slots=True)
class _OfSandbox:
    """The connections of one sandbox; idle ones by port, None being the agent."""

    idle: dict[int | None, Kept] = field(default_factory=dict)
    all: set[UpstreamConnection] = field(default_factory=set)


Dialer = Callable[[str, int, Callable[[UpstreamConnection], None] | None], Awaitable[UpstreamConnection]]


class Pool:
    """Every connection of the gateway towards sandboxes.

    `idle_s`, `port_idle_s`: how long an unused one is kept, to an agent or to a program's port.
    """

    def __init__(
        self,
        *,
        idle_s: float = IDLE_S,
        port_idle_s: float = PORT_IDLE_S,
        max_idle: int = MAX_IDLE,
        dialer: Dialer = dial,
    ) -> None:
        self._idle_s = idle_s
        self._port_idle_s = port_idle_s
        self._max_idle = max_idle
        self._dial = dialer
        self._sandboxes: dict[SandboxId, _OfSandbox] = {}
        # Whose connections are about to be cut, and what each of who is about to do it will tell.
        self._cutting: dict[SandboxId, list[Exception]] = {}

    def connections(self) -> int:
        """How many connections are open, idle ones included."""
        return sum(len(known.all) for known in self._sandboxes.values())

    def idle(self, id: SandboxId, port: int | None) -> UpstreamConnection | None:
        """A kept connection to `port` (None: the agent), the one used last first; None when there is none."""
        known = self._sandboxes.get(id)
        kept = known.idle.get(port) if known is not None else None
        while kept:
            connection, timer = kept.pop()
            timer.cancel()
            if connection.alive:
                return connection
        return None

    def close_idle(self, id: SandboxId, port: int | None) -> None:
        """Close what is kept to `port`: a program that serves one connection at a time would wait for its end."""
        while (connection := self.idle(id, port)) is not None:
            connection.abort()

    async def to_agent(self, id: SandboxId, endpoint: Endpoint) -> UpstreamConnection:
        """A fresh connection to the agent. Raises GuestUnreachable."""
        address, port = agent_address(endpoint)
        try:
            return await self._open(id, address, port)
        except Refused:
            raise GuestUnreachable("the sandbox's agent does not listen; the sandbox is starting or ending") from None

    async def to_port(self, id: SandboxId, endpoint: Endpoint, port: int) -> UpstreamConnection:
        """A fresh connection to a port of the sandbox, also one that listens on the sandbox's loopback only.

        Raises PortNotOpen when nothing listens there, GuestUnreachable when the sandbox does not answer.
        """
        address, _ = agent_address(endpoint)
        try:
            return await self._open(id, address, port)
        except Refused:
            pass
        connection = await self.to_agent(id, endpoint)
        target, token = f"127.0.0.1:{port}", endpoint.agent_token
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nX-Access-Token: {token}\r\n\r\n"
        head = await connection.open_tunnel(request.encode())
        status = head.split(b" ", 2)[1:2]
        if status == [b"200"]:
            return connection
        connection.abort()
        if status == [b"502"]:
            raise PortNotOpen(f"nothing in the sandbox listens on port {port}", port=port)
        raise GuestUnreachable(f"the agent refused a tunnel to port {port}: {head[:100].decode('latin-1')!r}")

    def give_back(self, id: SandboxId, port: int | None, connection: UpstreamConnection) -> None:
        """Keep a connection to `port` (None: the agent) whose exchange is over; close it when it cannot serve again."""
        known = self._sandboxes.get(id)
        if known is None or connection not in known.all or not connection.reusable or not connection.alive:
            connection.abort()
            return
        connection.finish()
        self._keep(known, port, connection)

    def keep_for_first(self, id: SandboxId, connection: UpstreamConnection) -> None:
        """Keep a connection to the agent that nothing was asked on yet, for the first request; close one too many."""
        known = self._sandboxes.get(id)
        if known is None or not connection.alive or known.idle.get(None):
            connection.abort()
            return
        self._keep(known, None, connection)

    def _keep(self, known: _OfSandbox, port: int | None, connection: UpstreamConnection) -> None:
        kept = known.idle.setdefault(port, [])
        if len(kept) >= self._max_idle:
            connection.abort()
            return
        idle_s = self._idle_s if port is None else self._port_idle_s
        kept.append((connection, asyncio.get_running_loop().call_later(idle_s, connection.abort)))

    def cutter(self, id: SandboxId, why: Exception) -> Callable[[], None]:
        """What will cut the connections to the sandbox that are open now, telling `why` to who uses them.

        None that is kept now or then is used again. Until it is called, `why` is told of what the sandbox resets as
        well, and a new connection is waited for as long as it takes. It must be called once, and may be again.
        """
        self._close_all_idle(id)
        known = self._sandboxes.get(id)
        now = list(known.all) if known is not None else []
        self._cutting.setdefault(id, []).append(why)
        self._explain(id)

        def cut() -> None:
            self._close_all_idle(id)
            cutting = [other for other in self._cutting.pop(id, []) if other is not why]
            if cutting:
                self._cutting[id] = cutting
            self._explain(id)
            for connection in now:
                connection.abort(why)

        return cut

    def _explain(self, id: SandboxId) -> None:
        cutting = self._cutting.get(id)
        known = self._sandboxes.get(id)
        for connection in known.all if known is not None else ():
            connection.reset_because = cutting[-1] if cutting else None

    def _close_all_idle(self, id: SandboxId) -> None:
        known = self._sandboxes.get(id)
        for port in list(known.idle) if known is not None else ():
            self.close_idle(id, port)

    def forget(self, id: SandboxId) -> None:
        """The sandbox has ended: cut every connection to it, also those in use."""
        known = self._sandboxes.pop(id, None)
        if known is None:
            return
        for kept in known.idle.values():
            for _, timer in kept:
                timer.cancel()
        ended = SandboxEnded("the sandbox ended while the request was in flight")
        for connection in list(known.all):
            connection.abort(ended)

    def close(self) -> None:
        """Cut everything."""
        for id in list(self._sandboxes):
            self.forget(id)

    async def _open(self, id: SandboxId, address: str, port: int) -> UpstreamConnection:
        def lost(connection: UpstreamConnection) -> None:
            self._lost(id, connection)

        while True:
            try:
                connection = await self._dial(address, port, lost)
                break
            except GuestUnreachable:
                # No packet reaches it while its memory is saved.
                if id not in self._cutting:
                    raise
        known = self._sandboxes.setdefault(id, _OfSandbox())
        known.all.add(connection)
        self._explain(id)
        return connection

    def _lost(self, id: SandboxId, connection: UpstreamConnection) -> None:
        known = self._sandboxes.get(id)
        if known is None:
            return
        known.all.discard(connection)
        for port, kept in known.idle.items():
            entry = next((entry for entry in kept if entry[0] is connection), None)
            if entry is not None:
                entry[1].cancel()
                kept.remove(entry)
                if not kept:
                    del known.idle[port]
                break
        if not known.all:
            del self._sandboxes[id]


def agent_address(endpoint: Endpoint) -> tuple[str, int]:
    """Host and port of a sandbox's agent."""
    host, colon, port = endpoint.address.partition(":")
    return host, int(port) if colon else AGENT_PORT
