from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from atolld.foundation.errors import GuestUnreachable
from atolld.foundation.ids import SandboxId
from atolld.gateway.dial import Refused
from atolld.gateway.pool import Pool, agent_address
from atolld.gateway.upstream import UpstreamConnection

from .conftest import FakeEndpoint
from .test_upstream import FakeTransport

ID, OTHER = SandboxId("i0000000000000000000"), SandboxId("i1111111111111111111")
END = FakeEndpoint("10.0.0.1")


class Dialer:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    async def __call__(
        self, address: str, port: int, on_lost: Callable[[UpstreamConnection], None] | None
    ) -> UpstreamConnection:
        self.calls.append((address, port))
        connection = UpstreamConnection(on_lost)
        connection.connection_made(FakeTransport())
        return connection


def used(connection: UpstreamConnection) -> UpstreamConnection:
    """The connection after one clean exchange."""
    connection.begin(b"GET", b"")
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    connection.get_buffer(-1)[: len(answer)] = answer
    connection.buffer_updated(len(answer))
    return connection


@pytest.fixture
def dialer() -> Dialer:
    return Dialer()


@pytest.fixture
def pool(dialer: Dialer) -> Pool:
    return Pool(max_idle=2, dialer=dialer)


@pytest.mark.parametrize("address, where", [("10.0.0.1", ("10.0.0.1", 49983)), ("127.0.0.1:4000", ("127.0.0.1", 4000))])
def test_where_an_agent_is(address: str, where: tuple[str, int]) -> None:
    assert agent_address(FakeEndpoint(address)) == where


async def test_the_connection_used_last_is_used_first(pool: Pool, dialer: Dialer) -> None:
    first, second = [used(await pool.to_agent(ID, END)) for _ in range(2)]
    pool.give_back(ID, None, first)
    pool.give_back(ID, None, second)
    assert pool.idle(OTHER, None) is None
    assert [pool.idle(ID, None) for _ in range(3)] == [second, first, None]
    assert dialer.calls == [("10.0.0.1", 49983)] * 2


async def test_only_so_many_are_kept(pool: Pool) -> None:
    all_ = [used(await pool.to_agent(ID, END)) for _ in range(3)]
    for connection in all_:
        pool.give_back(ID, None, connection)
    assert [connection.alive for connection in all_] == [True, True, False]


async def test_one_that_did_not_end_cleanly_is_not_kept(pool: Pool) -> None:
    connection = await pool.to_agent(ID, END)
    pool.give_back(ID, None, connection)
    assert not connection.alive and pool.idle(ID, None) is None


async def test_one_that_died_while_it_was_kept_is_passed_over(pool: Pool) -> None:
    first, second = [used(await pool.to_agent(ID, END)) for _ in range(2)]
    pool.give_back(ID, None, first)
    pool.give_back(ID, None, second)
    second.connection_lost(None)
    assert pool.connections() == 1
    assert pool.idle(ID, None) is first


async def test_one_nobody_uses_is_closed(dialer: Dialer) -> None:
    pool = Pool(idle_s=0.001, dialer=dialer)
    connection = used(await pool.to_agent(ID, END))
    pool.give_back(ID, None, connection)
    await asyncio.sleep(0.01)
    assert not connection.alive


async def test_the_end_of_a_sandbox_cuts_its_own_only(pool: Pool) -> None:
    idle, busy, other = [await pool.to_agent(id, END) for id in (ID, ID, OTHER)]
    pool.give_back(ID, None, used(idle))
    busy.begin(b"GET", b"")
    pool.forget(ID)
    assert (idle.alive, busy.alive, other.alive) == (False, False, True)
    with pytest.raises(GuestUnreachable, match="ended"):
        await busy.response_head()
    # What was on its way back when the sandbox ended must not serve the next one.
    pool.give_back(ID, None, busy)
    assert pool.idle(ID, None) is None
    pool.close()
    assert not other.alive


async def test_an_interruption_cuts_what_was_open_before_it(pool: Pool) -> None:
    idle, back, busy, other = [await pool.to_agent(id, END) for id in (ID, ID, ID, OTHER)]
    pool.give_back(ID, None, used(idle))
    busy.begin(b"GET", b"")
    cut = pool.cutter(ID, GuestUnreachable("saved"))
    assert (idle.alive, busy.alive) == (False, True)
    pool.give_back(ID, None, used(back))
    later = await pool.to_agent(ID, END)
    cut()
    assert [one.alive for one in (back, busy, later, other)] == [False, False, True, True]
    with pytest.raises(GuestUnreachable, match="saved"):
        await busy.response_head()
    pool.cutter(OTHER, GuestUnreachable("saved"))()
    assert not other.alive
    pool.forget(ID)
    cut()
    assert not later.alive


async def test_what_is_reset_meanwhile_is_told_why(pool: Pool) -> None:
    before, closed = [await pool.to_agent(ID, END) for _ in range(2)]
    cut = pool.cutter(ID, GuestUnreachable("saved"))
    other = pool.cutter(ID, GuestUnreachable("frozen"))
    meanwhile = await pool.to_agent(ID, END)
    cut()
    another = await pool.to_agent(ID, END)
    other()
    after = await pool.to_agent(ID, END)
    for connection, reason, told in (
        (before, None, "saved"),
        (closed, None, "saved"),
        (meanwhile, ConnectionResetError("reset"), "closed the connection: reset"),
        (another, ConnectionResetError("reset"), "closed the connection: reset"),
        (after, ConnectionResetError("reset"), "closed the connection: reset"),
    ):
        connection.connection_lost(reason)
        with pytest.raises(GuestUnreachable, match=told):
            await connection.response_head()


@pytest.mark.parametrize(
    ("reason", "told"), [(ConnectionResetError("reset"), "saved"), (None, "closed the connection")]
)
async def test_a_reset_during_the_save_is_the_saves_doing(pool: Pool, reason: Exception | None, told: str) -> None:
    connection = await pool.to_agent(ID, END)
    pool.cutter(ID, GuestUnreachable("saved"))
    connection.connection_lost(reason)
    with pytest.raises(GuestUnreachable, match=told):
        await connection.response_head()


async def test_while_it_is_saved_a_connection_is_waited_for(dialer: Dialer) -> None:
    silent = 3

    async def dial(address: str, port: int, on_lost: Callable[[UpstreamConnection], None] | None) -> UpstreamConnection:
        nonlocal silent
        silent -= 1
        if silent > 0:
            raise GuestUnreachable("no answer")
        return await dialer(address, port, on_lost)

    pool = Pool(dialer=dial)
    cut = pool.cutter(ID, GuestUnreachable("saved"))
    with pytest.raises(GuestUnreachable, match="no answer"):
        await pool.to_agent(OTHER, END)
    connection = await pool.to_agent(ID, END)
    assert connection.alive and silent == 0
    cut()
    silent = 2
    with pytest.raises(GuestUnreachable, match="no answer"):
        await pool.to_agent(ID, END)


async def test_an_agent_that_refuses() -> None:
    async def refuse(*_: object) -> UpstreamConnection:
        raise Refused("x")

    with pytest.raises(GuestUnreachable, match="does not listen"):
        await Pool(dialer=refuse).to_agent(ID, END)


async def test_ports_are_kept_apart(pool: Pool) -> None:
    first, second = [used(await pool.to_port(ID, END, port)) for port in (1, 2)]
    pool.give_back(ID, 1, first)
    pool.give_back(ID, 2, second)
    assert pool.idle(ID, None) is None
    pool.close_idle(ID, 1)
    assert (first.alive, second.alive) == (False, True)
    assert pool.idle(ID, 1) is None and pool.idle(ID, 2) is second


async def test_one_to_a_port_is_kept_for_a_shorter_time(dialer: Dialer) -> None:
    pool = Pool(port_idle_s=0.001, dialer=dialer)
    agent, port = used(await pool.to_agent(ID, END)), used(await pool.to_port(ID, END, 1))
    pool.give_back(ID, None, agent)
    pool.give_back(ID, 1, port)
    await asyncio.sleep(0.01)
    assert (agent.alive, port.alive) == (True, False)
    pool.close()


async def test_one_is_kept_for_the_first_request(pool: Pool, dialer: Dialer) -> None:
    first, second = [await pool.to_agent(ID, END) for _ in range(2)]
    pool.keep_for_first(ID, first)
    pool.keep_for_first(ID, second)
    assert first.alive
    assert not second.alive
    assert pool.idle(ID, None) is first
    assert pool.idle(ID, None) is None


async def test_none_is_kept_of_what_has_ended(pool: Pool) -> None:
    connection = await pool.to_agent(ID, END)
    pool.forget(ID)
    pool.keep_for_first(ID, connection)
    assert not connection.alive
    assert pool.connections() == 0
