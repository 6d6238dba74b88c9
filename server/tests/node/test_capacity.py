from __future__ import annotations

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.foundation.ids import SandboxId
from atolld.node.capacity import CapacityBook, CapacityLimits

LIMITS = CapacityLimits(
    cpu_total=2,
    memory_total_mib=1000,
    max_sandboxes=3,
    cpu_overcommit=2,
    memory_overcommit=2,
    memory_reserve_mib=100,
    disk_reserve_mib=200,
)
ONE = Resources(cpu=1, memory_mib=500)


def id_of(number: int) -> SandboxId:
    return SandboxId(f"i{number:019d}")


@pytest.mark.parametrize(
    ("held", "asked", "free", "told"),
    [
        ([Resources(cpu=0.1, memory_mib=64)] * 3, Resources(cpu=0.1, memory_mib=64), (900, 900), "max_sandboxes"),
        ([Resources(cpu=2, memory_mib=64)] * 2, Resources(cpu=0.5, memory_mib=64), (900, 900), "CPUs"),
        ([Resources(cpu=0.1, memory_mib=900)] * 2, Resources(cpu=0.1, memory_mib=300), (900, 900), "MiB of memory are"),
        ([], ONE, (99, 900), "99 MiB of memory are free"),
        ([], ONE, (900, 199), "199 MiB of disk are free"),
    ],
)
def test_what_does_not_fit_is_refused_and_reserves_nothing(
    held: list[Resources], asked: Resources, free: tuple[int, int], told: str
) -> None:
    book = CapacityBook(LIMITS)
    for number, resources in enumerate(held):
        book.claim(id_of(number), resources, 900, 900)
    before = book.snapshot(0)
    with pytest.raises(Capacity, match=told):
        book.claim(id_of(99), asked, *free)
    assert book.snapshot(0) == before


@pytest.mark.parametrize(
    "asked, told",
    [
        (Resources(cpu=2.5, memory_mib=64), "cpu is 2.5"),
        (Resources(cpu=1, memory_mib=1001), "memory_mib is 1001"),
    ],
)
@pytest.mark.parametrize("held", [0, 3])
def test_what_never_fits_is_not_told_to_wait_for_room(asked: Resources, told: str, held: int) -> None:
    book = CapacityBook(LIMITS)
    for number in range(held):
        book.claim(id_of(number), ONE, 900, 900)
    with pytest.raises(InvalidArgument, match=told):
        book.claim(id_of(99), asked, 900, 900)
    assert book.snapshot(0).sandboxes == held


def test_room_comes_back() -> None:
    book = CapacityBook(LIMITS)
    for number in range(3):
        book.claim(id_of(number), ONE, 900, 900)
    book.give_up(id_of(0))
    book.give_up(id_of(0))
    book.claim(id_of(3), ONE, 900, 900)
    snapshot = book.snapshot(77)
    assert (snapshot.sandboxes, snapshot.cpu_taken, snapshot.memory_taken_mib, snapshot.disk_free_mib) == (
        3,
        3,
        1500,
        77,
    )


def test_what_already_runs_is_counted_whatever_the_limits_say() -> None:
    book = CapacityBook(LIMITS)
    for number in range(5):
        book.adopt(id_of(number), ONE)
    assert book.snapshot(0).sandboxes == 5
    with pytest.raises(Capacity):
        book.claim(id_of(9), ONE, 900, 900)
