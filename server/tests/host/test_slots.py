"""The pool: what is ready, in use and gone, and its bounds."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from atolld.foundation.errors import Capacity, FailedPrecondition
from atolld.host import libnftables, netns
from atolld.host.instance import Instance
from atolld.host.netlink import INTERFACES
from atolld.host.nftables import Egress, FirewallConfig
from atolld.host.slots import SlotPool

CONFIG = FirewallConfig(IPv4Network("198.19.64.0/24"))


async def test_a_pool_that_is_not_started_gives_nothing(instance: Instance) -> None:
    with pytest.raises(FailedPrecondition):
        await SlotPool(instance, CONFIG).acquire()


@pytest.mark.parametrize(
    ("subnet", "ready", "limit", "expected"),
    [
        ("10.192.0.0/18", 8, None, 4088),
        ("10.192.0.0/18", 8, 10, 10),
        ("10.192.0.0/24", 8, 1000, 56),
        ("10.192.0.0/29", 8, None, 1),
    ],
)
def test_the_limit_leaves_room_for_the_ready_ones(
    instance: Instance, subnet: str, ready: int, limit: int | None, expected: int
) -> None:
    pool = SlotPool(instance, FirewallConfig(IPv4Network(subnet)), ready_target=ready, limit=limit)
    assert pool.stats.limit == expected


@pytest.fixture
async def pool(instance: Instance, clean: None) -> AsyncIterator[SlotPool]:
    made = SlotPool(instance, CONFIG, ready_target=2, limit=4)
    await made.start()
    yield made
    await made.remove_all()


@pytest.mark.real
async def test_slots_are_taken_given_back_and_made_new(pool: SlotPool, eventually: Callable[..., Any]) -> None:
    await eventually(lambda: pool.stats.ready == 2)
    begin = time.perf_counter()
    slot = await pool.acquire()
    assert time.perf_counter() - begin < 0.02
    assert slot.netns.exists()
    await eventually(lambda: pool.stats.ready == 2)
    for _ in range(2):
        pool.release(slot)
    assert not slot.netns.exists()
    assert pool.stats.in_use == 0
    await pool.settle()
    await eventually(lambda: pool.stats.leaving == 0)
    other = await pool.acquire()
    assert other.index != slot.index


@pytest.mark.real
async def test_no_more_than_the_limit_also_when_all_come_at_once(pool: SlotPool) -> None:
    results = await asyncio.gather(*(pool.acquire() for _ in range(9)), return_exceptions=True)
    slots = [result for result in results if not isinstance(result, BaseException)]
    assert len(slots) == 4
    assert all(isinstance(result, Capacity) for result in results if isinstance(result, BaseException))
    assert len({slot.index for slot in slots}) == 4
    pool.release(slots[0])
    assert (await pool.acquire()).index not in {slot.index for slot in slots[1:]}


@pytest.mark.real
async def test_egress_is_kept_per_slot_and_forgotten_with_it(pool: SlotPool, instance: Instance) -> None:
    slot = await pool.acquire(Egress(internet=False))
    listed = libnftables.run_blocking(f"list set inet {instance.name} offline")
    assert slot.address in listed
    assert await pool.set_egress(slot, Egress(internet=False)) == slot
    pool.release(slot)
    await pool.settle()
    assert slot.address not in libnftables.run_blocking(f"list set inet {instance.name} offline")
    with pytest.raises(FailedPrecondition):
        await pool.set_egress(slot, Egress())


@pytest.mark.real
async def test_a_cancelled_acquire_loses_no_slot(pool: SlotPool, eventually: Callable[..., Any]) -> None:
    tasks = [asyncio.get_running_loop().create_task(pool.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    taken = [result for result in results if not isinstance(result, BaseException)]
    await eventually(lambda: pool.stats.ready >= 2)
    assert pool.stats.in_use == len(taken)


@pytest.mark.real
async def test_a_restart_keeps_the_recovered_and_destroys_the_rest(instance: Instance, clean: None) -> None:
    first = SlotPool(instance, CONFIG, ready_target=2)
    await first.start()
    kept, lost = await first.acquire(Egress(internet=False)), await first.acquire()
    await first.close()
    assert netns.list_owned(instance) == {kept.index, lost.index}
    second = SlotPool(instance, CONFIG, ready_target=0)
    with pytest.raises(FailedPrecondition, match="gone"):
        await second.start({40: Egress()})
    recovered = await second.start({kept.index: kept.egress})
    assert recovered == {kept.index: kept}
    assert netns.list_owned(instance) == {kept.index}
    assert kept.address in libnftables.run_blocking(f"list set inet {instance.name} offline")
    for _ in range(2):
        await second.remove_all()


@pytest.mark.real
async def test_one_that_is_cut_off_is_reconnected_and_so_is_it_by_a_restart(instance: Instance, clean: None) -> None:
    first = SlotPool(instance, CONFIG, ready_target=0)
    await first.start()
    slot = await first.acquire()

    def passes() -> bool:
        sent = INTERFACES / slot.namespace.host_interface / "statistics" / "tx_packets"
        before = int(sent.read_text())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (slot.address, 9))
        return int(sent.read_text()) > before

    assert await first.cut_off(slot) == 0
    assert not passes()
    await first.reconnect(slot)
    assert passes()
    await first.cut_off(slot)
    await first.close()
    second = SlotPool(instance, CONFIG, ready_target=0)
    await second.start({slot.index: slot.egress})
    assert passes()
    await second.remove_all()
    await second.reconnect(slot)
    with pytest.raises(FileNotFoundError):
        await second.cut_off(slot)


@pytest.mark.real
async def test_building_goes_on_after_a_failure(
    instance: Instance, clean: None, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    real, failures = netns.create, [OSError(12, "no memory")]

    async def create(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(*arguments)

    monkeypatch.setattr(netns, "create", create)
    monkeypatch.setattr("atolld.host.slots._RETRY_S", 0.01)
    pool = SlotPool(instance, CONFIG, ready_target=1)
    await pool.start()
    await eventually(lambda: pool.stats.ready == 1)
    await pool.remove_all()


@pytest.mark.real
async def test_a_hundred_rounds_leave_what_was_there(pool: SlotPool) -> None:
    for _ in range(100):
        pool.release(await pool.acquire())
    await pool.settle()
    assert pool.stats.in_use == 0


@pytest.mark.real
async def test_a_wanted_number_is_given_when_it_is_free(instance: Instance, clean: None) -> None:
    pool = SlotPool(instance, CONFIG, ready_target=1, limit=10)
    await pool.start()
    slot = await pool.acquire(index=17)
    assert (slot.index, slot.address) == (17, str(slot.namespace.sandbox_ip))
    assert (await pool.acquire(index=17)).index != 17
    assert (await pool.acquire(index=-1)).index != 17
    assert (await pool.acquire(index=CONFIG.pool.num_addresses)).index != 17
    pool.release(slot)
    # It is still being destroyed: a rollback asks for it at once.
    assert (await pool.acquire(index=17)).index == 17
    await pool.remove_all()


@pytest.mark.real
async def test_a_wanted_number_is_not_waited_for_too_long(
    instance: Instance, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go_on = netns.destroy, asyncio.Event()

    async def destroy(namespace: Any) -> None:
        await go_on.wait()
        await real(namespace)

    pool = SlotPool(instance, CONFIG, ready_target=0, limit=10)
    await pool.start()
    slot = await pool.acquire(index=17)
    monkeypatch.setattr(netns, "destroy", destroy)
    monkeypatch.setattr("atolld.host.slots._LEAVING_S", 0.01)
    pool.release(slot)
    assert (await pool.acquire(index=17)).index != 17
    go_on.set()
    await pool.remove_all()


@pytest.mark.real
async def test_a_ready_slot_of_the_wanted_number_is_taken(pool: SlotPool, eventually: Callable[..., Any]) -> None:
    await eventually(lambda: pool.stats.ready == 2)
    assert (await pool.acquire(index=1)).index == 1
    assert (await pool.acquire()).index == 0


@pytest.mark.real
async def test_parked_numbers_are_handed_out_last(instance: Instance, clean: None) -> None:
    pool = SlotPool(instance, FirewallConfig(IPv4Network("198.19.64.0/28")), ready_target=0)
    await pool.start()
    for index in (0, 1, 2, 99):
        pool.park(index)
    assert [(await pool.acquire()).index for _ in range(2)] == [3, 0]
    assert (await pool.acquire(index=2)).index == 2
    pool.unpark(1)
    pool.unpark(1)
    assert (await pool.acquire()).index == 1
    await pool.remove_all()
