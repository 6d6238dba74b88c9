"""What only the asynchronous client does: many things at once, and giving up in the middle."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from e2e.e2b.runners.harness import Run, check


async def spawn(coroutine: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(coroutine)


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the cancelled call returned")


@check("commands.run", only="async")
async def many_commands_at_once(run: Run) -> None:
    done = await asyncio.gather(*(run.sb.commands.run(f"echo {number}") for number in range(20)))
    assert [one.stdout for one in done] == [f"{number}\n" for number in range(20)]


@check("commands.run", only="async")
async def a_command_given_up(run: Run) -> None:
    task = await spawn(run.sb.commands.run("echo $$ > /tmp/given-up; exec sleep 20", timeout=30))
    await run.until(lambda: run.sb.files.exists("/tmp/given-up"))
    await cancel(task)
    pid = int(await run.until(lambda: run.sb.files.read("/tmp/given-up")))
    assert pid in [one.pid for one in await run.sb.commands.list()], "giving up the call ended the command"
    handle = await run.sb.commands.connect(pid)
    assert await run.sb.commands.kill(pid)
    await run.raises("CommandExitException", handle.wait)


@check("Sandbox.create", only="async")
async def a_create_given_up(run: Run) -> None:
    async def ids() -> set[str]:
        query = run.e2b.SandboxQuery(metadata={"given": "up"})
        return {item.sandbox_id for item in await run.Sandbox.list(query=query).next_items()}

    for delay_s in (0.0, 0.02, 0.1, 0.3):
        task = await spawn(run.Sandbox.create(timeout=20, metadata={"given": "up"}))
        await asyncio.sleep(delay_s)
        task.cancel()
        # One that came to its end just then is an ordinary sandbox.
        with suppress(asyncio.CancelledError):
            run.made.append(await task)
    # What had begun either came to nothing or is an ordinary sandbox that is listed and can be killed.
    await asyncio.sleep(1)
    for sandbox_id in await ids():
        assert await run.Sandbox.kill(sandbox_id)
    assert await ids() == set()


@check("files.read", "files.write", only="async")
async def a_transfer_given_up(run: Run) -> None:
    folder = await run.folder()
    await run.sb.commands.run(f"head -c 50000000 /dev/zero > {folder}/big")
    stream = await run.sb.files.read(f"{folder}/big", format="stream")
    async for _ in stream:
        break
    await cancel(await spawn(run.sb.files.read(f"{folder}/big", format="bytes")))
    began = time.monotonic()
    assert await run.sb.files.exists(f"{folder}/big")
    assert time.monotonic() - began < 5


@check("files.watch_dir", only="async")
async def a_watch_beside_commands(run: Run) -> None:
    folder = await run.folder()
    events: list[Any] = []
    watch = await run.sb.files.watch_dir(folder, on_event=events.append)
    await asyncio.gather(*(run.sb.files.write(f"{folder}/{number}", "x") for number in range(30)))
    wanted = {str(number) for number in range(30)}
    await run.until(lambda: {event.name for event in events} >= wanted)
    await watch.stop()
