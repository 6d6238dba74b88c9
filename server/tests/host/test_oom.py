"""The kernel's own word when it kills for memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atolld.foundation.units import MIB
from atolld.host.cgroup_layout import read_layout
from atolld.host.cgroups import CgroupLimits, Cgroups
from atolld.host.instance import Instance
from atolld.host.mounts import read_mounts
from atolld.host.oom import oom_kills


@pytest.mark.real
async def test_each_kill_is_told_and_the_end_ends_it(
    instance: Instance, clean: None, start_python: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    cgroups = Cgroups(instance, read_layout(read_mounts()))
    cgroups.prepare()
    cgroups.create("i1", CgroupLimits(1, 48 * MIB, 50))
    seen: list[int] = []

    async def listen() -> None:
        async for count in oom_kills(cgroups, "i1"):
            seen.append(count)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(listen())
        await asyncio.sleep(0)
        for expected in (1, 2):
            bomb = start_python("x = b'x' * (1 << 30)", "sh", "-c", 'read go; exec "$0" "$@"')
            cgroups.add("i1", bomb.pid)
            bomb.send("go")
            assert await asyncio.to_thread(bomb.popen.wait) == -9
            await eventually(lambda count=expected: len(seen) == count)
        await cgroups.remove_all()
    assert seen == [1, 2]


@pytest.mark.real
async def test_a_group_that_is_not_there(instance: Instance) -> None:
    cgroups = Cgroups(instance, read_layout(read_mounts()))
    with pytest.raises(FileNotFoundError):
        await anext(oom_kills(cgroups, "i1"))
