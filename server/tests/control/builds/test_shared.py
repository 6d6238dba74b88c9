"""Work that several builds want at once."""

from __future__ import annotations

import asyncio

import pytest

from atolld.control.builds.shared import Say, SharedWork
from atolld.foundation.aio import cancel_and_wait, spawn


class Work:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def run(self, say: Say) -> None:
        self.begun += 1
        say("info", "begun")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        say("info", "done")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_two_at_once_share_it_and_hear_all_of_it() -> None:
    shared, work = SharedWork(), Work()
    heard: list[list[str]] = [[], []]
    first = spawn(shared.join("k", work.run, lambda _, line: heard[0].append(line)), name="first")
    await settle()
    second = spawn(shared.join("k", work.run, lambda _, line: heard[1].append(line)), name="second")
    await settle()
    work.go.set()
    assert (await first, await second) == (True, False)
    assert work.begun == 1
    assert heard == [["begun", "done"]] * 2


async def test_the_next_one_begins_anew() -> None:
    shared, work = SharedWork(), Work()
    work.go.set()
    assert await shared.join("k", work.run, lambda *_: None)
    assert await shared.join("k", work.run, lambda *_: None)
    assert work.begun == 2


async def test_it_goes_on_while_one_waits_and_ends_with_the_last() -> None:
    shared, work = SharedWork(), Work()
    tasks = [spawn(shared.join("k", work.run, lambda *_: None), name=f"{n}", report=False) for n in range(2)]
    await settle()
    await cancel_and_wait(tasks[0])
    assert work.cancelled == 0
    await cancel_and_wait(tasks[1])
    assert work.cancelled == 1
    fresh = Work()
    fresh.go.set()
    assert await shared.join("k", fresh.run, lambda *_: None)


async def test_both_are_told_of_a_failure() -> None:
    shared = SharedWork()
    gate = asyncio.Event()

    async def fail(_: Say) -> None:
        await gate.wait()
        raise ValueError("broken")

    tasks = [spawn(shared.join("k", fail, lambda *_: None), name=f"{n}", report=False) for n in range(2)]
    await settle()
    gate.set()
    await asyncio.wait(tasks)
    for task in tasks:
        with pytest.raises(ValueError, match="broken"):
            task.result()
