"""`python -m e2e.e2b.runners.many`: twenty sandboxes of the asynchronous client at once, each with commands, files, a
watch and a terminal of its own. Prints {"clients": 20, "faults": [...]}: every error, and everything of another's that
one of them saw."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from e2e.e2b.runners.harness import Run
from e2e.e2b.runners.ptys import pty_size

CLIENTS = 20
COMMANDS = 50
FILES = 10


async def one(run: Run, number: int) -> None:
    """The life of one client. AssertionError for what is wrong or another's."""
    mark = f"client-{number}"
    sb = await run.Sandbox.create(timeout=240, metadata={"mark": mark}, envs={"MARK": mark})
    try:
        assert (await sb.get_info()).metadata == {"mark": mark}
        await asyncio.gather(use_commands(sb, mark), use_files(run, sb, mark), use_a_terminal(sb, mark))
    finally:
        assert await sb.kill()
    assert not await sb.is_running()


async def use_commands(sb: Any, mark: str) -> None:
    for turn in range(COMMANDS):
        done = await sb.commands.run(f"echo $MARK {turn}; echo err-$MARK >&2")
        assert (done.stdout, done.stderr) == (f"{mark} {turn}\n", f"err-{mark}\n"), done


async def use_files(run: Run, sb: Any, mark: str) -> None:
    seen: set[str] = set()
    await sb.files.make_dir("/home/user/watched")
    watch = await sb.files.watch_dir("/home/user/watched", on_event=lambda event: seen.add(event.name))
    names = {f"{mark}-{turn}" for turn in range(FILES)}
    for name in sorted(names):
        await sb.files.write(f"/home/user/watched/{name}", name * 1000)
        assert await sb.files.read(f"/home/user/watched/{name}") == name * 1000
    await run.until(lambda: seen >= names, 20)
    assert seen == names, f"{mark} saw {seen - names}"
    assert {entry.name for entry in await sb.files.list("/home/user/watched")} == names
    await watch.stop()


async def use_a_terminal(sb: Any, mark: str) -> None:
    shown: list[bytes] = []
    terminal = await sb.pty.create(pty_size(24, 80), on_data=shown.append)
    await sb.pty.send_stdin(terminal.pid, b'echo "<$MARK>"; exit\n')
    await terminal.wait()
    assert f"<{mark}>".encode() in b"".join(shown), b"".join(shown)


async def main() -> None:
    run = Run("async")
    ended = await asyncio.gather(*(one(run, number) for number in range(CLIENTS)), return_exceptions=True)
    faults = [f"client-{number}: {type(end).__name__}: {end}" for number, end in enumerate(ended) if end is not None]
    print(json.dumps({"clients": len(ended), "faults": faults}))


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    # The client's native transport aborts (SIGABRT, without a word) in two of three runs while the interpreter ends,
    # after everything was said; with a single client it was seen to once.
    os._exit(0)
