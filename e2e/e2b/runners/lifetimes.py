"""A sandbox whose time is over."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
import time
from typing import Any

from e2e.e2b.runners.harness import Run, check, go

END_OF_LIFE = "killed or reached its end of life"


@check("Sandbox.create", "Sandbox.is_running", "Sandbox.list")
async def three_seconds_to_live(run: Run) -> None:
    sb = await run.create(timeout=3)
    began = time.monotonic()
    handle = await go(sb.commands.run("sleep 60", background=True, timeout=60))

    async def over() -> bool:
        return await go(sb.is_running()) is False

    await run.until(over, 15)
    assert time.monotonic() - began > 2
    listed = await go(run.Sandbox.list().next_items())
    assert sb.sandbox_id not in [item.sandbox_id for item in listed]
    assert await go(sb.kill()) is False
    await expect_end_of_life(run, handle.wait)


@check("commands.run", "CommandHandle.wait")
async def killed_under_a_command(run: Run) -> None:
    sb = await run.create()
    if run.flavour == "async":
        waiting = asyncio.get_running_loop().create_task(sb.commands.run("sleep 60", timeout=60))
        await asyncio.sleep(0.7)
        await sb.kill()
        await expect_end_of_life(run, lambda: waiting)
    else:
        killer = threading.Timer(0.7, run.Sandbox.kill, (sb.sandbox_id,))
        killer.start()
        await expect_end_of_life(run, lambda: sb.commands.run("sleep 60", timeout=60))
        killer.join()


async def expect_end_of_life(run: Run, wait: Any) -> None:
    """The client's own words for it. Releases before SandboxNotRunningException know them for HTTP/2 only and, over
    HTTP/1.1, suspect the timeout; those before them pass on what their transport says."""
    if hasattr(run.e2b, "SandboxNotRunningException"):
        await run.raises("SandboxNotRunningException", wait, END_OF_LIFE)
    elif END_OF_LIFE in inspect.getsource(importlib.import_module("e2b.envd.rpc")):
        await run.raises("TimeoutException", wait, "timeout")
    else:
        await run.raises(Exception, wait)
