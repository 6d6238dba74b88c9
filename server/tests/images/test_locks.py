from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from atolld.images.locks import exclusive

HOLDER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


async def test_the_second_waits_and_is_told_once(tmp_path: Path) -> None:
    order: list[str] = []
    release = asyncio.Event()

    async def first() -> None:
        async with exclusive(tmp_path / "lock"):
            order.append("first in")
            await release.wait()
            order.append("first out")

    def told() -> None:
        order.append("told")
        release.set()

    async def second() -> None:
        async with exclusive(tmp_path / "lock", told):
            order.append("second in")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
    assert order == ["first in", "told", "first out", "second in"]


def test_a_holder_that_is_killed_frees_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"

        async def take() -> None:
            async with asyncio.timeout(20), exclusive(tmp_path / "lock", holder.kill):
                pass

        asyncio.run(take())
