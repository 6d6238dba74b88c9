"""Commands of a dead daemon are found by what they were given."""

from __future__ import annotations

import asyncio
import sys

from atolld.foundation.ids import new_sandbox_id
from atolld.host import procs
from atolld.runtime.killing import commands_naming

SCRIPT = "import time; print(flush=True); time.sleep(60)"


async def test_only_that_program_with_that_id() -> None:
    mine, other = new_sandbox_id(), new_sandbox_id()
    started = []
    for name, argument in (("runtimex-run", f"--bundle=/x/{mine}"), ("runtimex", "none"), ("stranger", mine)):
        process = await asyncio.create_subprocess_exec(
            name, "-c", SCRIPT, argument, executable=sys.executable, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        started.append(process)
    try:
        assert commands_naming(mine, "runtimex") == [procs.identify(started[0].pid)]
        assert commands_naming(other, "runtimex") == []
    finally:
        for process in started:
            process.kill()
            await process.wait()
