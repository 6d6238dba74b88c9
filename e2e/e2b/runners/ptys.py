"""Pseudo-terminals."""

from __future__ import annotations

import importlib
from typing import Any

from e2e.e2b.runners.commands import stream
from e2e.e2b.runners.harness import Run, check, go


async def open_pty(run: Run, seen: list[bytes], **options: Any) -> Any:
    if run.flavour == "async":
        options["on_data"] = seen.append
    return await go(run.sb.pty.create(size=pty_size(24, 80), **options))


def pty_size(rows: int, cols: int) -> Any:
    return importlib.import_module("e2b.sandbox.commands.command_handle").PtySize(rows=rows, cols=cols)


async def finish(run: Run, handle: Any, seen: list[bytes]) -> str:
    """Wait for the shell's end; everything it showed."""
    if run.flavour == "sync":
        handle.wait(on_pty=seen.append)
    else:
        await handle.wait()
    return b"".join(seen).decode(errors="replace")


@check("pty.create", "pty.send_stdin")
async def a_terminal(run: Run) -> None:
    seen: list[bytes] = []
    handle = await open_pty(run, seen, cwd="/tmp", envs={"MINE": "terminal"})
    for line in (b"echo $((20+3)):$MINE:$TERM:$LANG\n", b"pwd; whoami; tty\n", b"stty size\n", b"exit\n"):
        await go(run.sb.pty.send_stdin(handle.pid, line))
    shown = await finish(run, handle, seen)
    for part in ("23:terminal:xterm-256color:C.UTF-8", "/tmp\r\n", "user\r\n", "/dev/pts/", "24 80"):
        assert part in shown, f"{part!r} is not in {shown!r}"


@check("pty.resize")
async def another_size(run: Run) -> None:
    seen: list[bytes] = []
    handle = await open_pty(run, seen)
    await go(run.sb.pty.resize(handle.pid, pty_size(33, 117)))
    await go(run.sb.pty.send_stdin(handle.pid, b"stty size; tput cols; exit\n"))
    shown = await finish(run, handle, seen)
    assert "33 117" in shown and "117\r\n" in shown, shown


@check("pty.kill")
async def kill_a_terminal(run: Run) -> None:
    handle = await open_pty(run, [])
    assert handle.pid in [one.pid for one in await go(run.sb.commands.list())]
    assert await go(run.sb.pty.kill(handle.pid)) is True

    async def over() -> bool:
        return await go(run.sb.pty.kill(handle.pid)) is False

    # A signal finds a process until its end was noticed.
    await run.until(over, 5)
    await run.raises("CommandExitException", handle.wait)


@check("pty.connect")
async def back_to_a_terminal(run: Run) -> None:
    handle = await open_pty(run, [])
    await go(handle.disconnect())
    seen: list[bytes] = []
    if run.flavour == "sync":
        again = run.sb.pty.connect(handle.pid)
    else:
        again = await run.sb.pty.connect(handle.pid, on_data=seen.append)
    await go(run.sb.pty.send_stdin(handle.pid, b"echo back:$((40+2)); exit\n"))
    assert "back:42" in await finish(run, again, seen)


@check("pty.stream_input")
async def typing_as_a_stream(run: Run) -> None:
    seen: list[bytes] = []
    handle = await open_pty(run, seen)
    keys = [b"echo str", b"eamed:$((1", b"+1))\n", b"exit\n"]
    await stream(run, run.sb.pty, handle.pid, keys)
    assert "streamed:2" in await finish(run, handle, seen)


@check("pty.create", "pty.send_stdin")
async def interrupting_in_a_terminal(run: Run) -> None:
    seen: list[bytes] = []
    handle = await open_pty(run, seen)
    await go(run.sb.pty.send_stdin(handle.pid, b"sleep 60.25\n"))

    # Not after a fixed time: a busy machine may not have started it by then.
    async def has_begun() -> bool:
        found = await go(run.sb.commands.run("pgrep -fx 'sleep 60[.]25' || true"))
        return bool(found.stdout.strip())

    await run.until(has_begun)
    await go(run.sb.pty.send_stdin(handle.pid, b"\x03"))
    await run.pause(0.2)
    await go(run.sb.pty.send_stdin(handle.pid, b"echo status:$?; exit 0\n"))
    assert "status:130" in await finish(run, handle, seen)
