"""Commands: output, exit statuses, users, folders, environments, input, background, time limits."""

from __future__ import annotations

import time
from typing import Any

from e2e.e2b.runners.harness import Run, check, go


@check("commands.run")
async def run_and_its_result(run: Run) -> None:
    done = await go(run.sb.commands.run("echo out; echo err >&2"))
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 0) and not done.error, done
    multi = await go(run.sb.commands.run("printf 'a\\nb'; printf 'é漢😀'"))
    assert multi.stdout == "a\nbé漢😀"


@check("commands.run")
async def run_that_fails(run: Run) -> None:
    error = await run.raises("CommandExitException", lambda: run.sb.commands.run("echo o; echo e >&2; exit 7"))
    assert (error.exit_code, error.stdout, error.stderr) == (7, "o\n", "e\n")
    error = await run.raises("CommandExitException", lambda: run.sb.commands.run("kill -9 $$"))
    assert error.exit_code != 0


@check("commands.run")
async def run_as_whom_and_where(run: Run) -> None:
    commands = run.sb.commands
    assert (await go(commands.run("whoami; pwd"))).stdout == "user\n/home/user\n"
    assert (await go(commands.run("whoami; pwd", user="root", cwd="/tmp"))).stdout == "root\n/tmp\n"
    assert (await go(commands.run("sudo -n whoami"))).stdout == "root\n"
    assert (await go(commands.run("echo $GREETING-$MINE", envs={"MINE": "a b"}))).stdout == "sandbox-a b\n"
    assert (await go(commands.run("echo $GREETING", envs={"GREETING": "request"}))).stdout == "request\n"
    await run.raises("InvalidArgumentException", lambda: commands.run("true", cwd="/no/such"), "/no/such")
    await run.raises("AuthenticationException", lambda: commands.run("true", user="nobody-here"), "nobody-here")


@check("commands.run")
async def output_comes_while_it_runs(run: Run) -> None:
    seen: list[tuple[float, str]] = []
    began = time.monotonic()
    await go(
        run.sb.commands.run(
            "echo first; sleep 1; echo last; echo problem >&2",
            on_stdout=lambda text: seen.append((time.monotonic() - began, text)),
            on_stderr=lambda text: seen.append((time.monotonic() - began, "!" + text)),
        )
    )
    assert sorted(text for _, text in seen) == ["!problem\n", "first\n", "last\n"], seen
    assert seen[-1][0] - seen[0][0] > 0.7, f"it was held back: {seen}"


@check("commands.run")
async def much_output(run: Run) -> None:
    done = await go(run.sb.commands.run("seq 1 200000"))
    assert done.stdout.count("\n") == 200_000 and done.stdout.endswith("200000\n")


@check("commands.run")
async def run_that_takes_too_long(run: Run) -> None:
    began = time.monotonic()
    await run.raises("TimeoutException", lambda: run.sb.commands.run("sleep 0.1; exec sleep 61", timeout=1))
    assert time.monotonic() - began < 5

    async def over() -> bool:
        return not [one for one in await go(run.sb.commands.list()) if "sleep 61" in " ".join(one.args)]

    await run.until(over, 5)


@check("commands.list", "commands.kill")
async def list_and_kill(run: Run) -> None:
    handle = await go(run.sb.commands.run("exec sleep 62", background=True, envs={"TAGGED": "yes"}, cwd="/tmp"))
    mine = [one for one in await go(run.sb.commands.list()) if one.pid == handle.pid]
    assert len(mine) == 1 and "sleep 62" in " ".join([mine[0].cmd, *mine[0].args])
    assert mine[0].cwd == "/tmp" and mine[0].envs.get("TAGGED") == "yes"
    assert await go(run.sb.commands.kill(handle.pid)) is True

    async def over() -> bool:
        return await go(run.sb.commands.kill(handle.pid)) is False

    # A signal finds a process until its end was noticed.
    await run.until(over, 5)
    assert handle.pid not in [one.pid for one in await go(run.sb.commands.list())]
    await run.raises("CommandExitException", handle.wait)


@check("commands.run", "CommandHandle.wait", "CommandHandle.kill")
async def in_the_background(run: Run) -> None:
    handle = await go(run.sb.commands.run("sleep 0.2; echo done", background=True))
    assert handle.pid > 0
    done = await go(handle.wait())
    assert (done.stdout, done.exit_code) == ("done\n", 0)
    handle = await go(run.sb.commands.run("exec sleep 63", background=True))
    assert await go(handle.kill()) is True
    error = await run.raises("CommandExitException", handle.wait)
    assert error.exit_code != 0 and "killed" in (error.error or str(error))


@check("commands.send_stdin")
async def input_of_a_command(run: Run) -> None:
    handle = await go(run.sb.commands.run("read a; read b; echo got:$a:$b", background=True, stdin=True))
    await go(run.sb.commands.send_stdin(handle.pid, "héllo\n"))
    await go(run.sb.commands.send_stdin(handle.pid, "more\n"))
    assert (await go(handle.wait())).stdout == "got:héllo:more\n"
    await run.raises("NotFoundException", lambda: run.sb.commands.send_stdin(999_999, "x"))


@check("commands.close_stdin")
async def end_of_input(run: Run) -> None:
    handle = await go(run.sb.commands.run("exec cat", background=True, stdin=True))
    await go(run.sb.commands.send_stdin(handle.pid, "more"))
    await go(run.sb.commands.close_stdin(handle.pid))
    assert (await go(handle.wait())).stdout == "more"


@check("CommandHandle.send_stdin", "CommandHandle.close_stdin")
async def input_through_the_handle(run: Run) -> None:
    handle = await go(run.sb.commands.run("exec cat", background=True, stdin=True))
    await go(handle.send_stdin("one "))
    await go(handle.send_stdin(b"two"))
    await go(handle.close_stdin())
    assert (await go(handle.wait())).stdout == "one two"


@check("commands.stream_input", "CommandInputHandle.send", "CommandInputHandle.close")
async def input_as_a_stream(run: Run) -> None:
    handle = await go(run.sb.commands.run("exec cat", background=True, stdin=True))
    parts = [f"{number};".encode() for number in range(100)]
    await stream(run, run.sb.commands, handle.pid, parts)
    await go(run.sb.commands.close_stdin(handle.pid))
    assert (await go(handle.wait())).stdout.encode() == b"".join(parts)


async def stream(run: Run, target: Any, pid: int, parts: list[bytes]) -> None:
    """Send `parts` in order: the blocking client takes them all, the asynchronous one gives a handle for them."""
    if run.flavour == "sync":
        target.stream_input(pid, parts)
        return
    async with target.stream_input(pid) as sending:
        for part in parts[:-1]:
            await sending.send(part)
    last = target.stream_input(pid)
    await last.send(parts[-1])
    await last.close()


@check("commands.run")
async def no_input_by_default(run: Run) -> None:
    done = await go(run.sb.commands.run("cat; echo end"))
    assert done.stdout == "end\n"


@check("commands.connect", "CommandHandle.disconnect")
async def leave_and_come_back(run: Run) -> None:
    handle = await go(
        run.sb.commands.run("for n in 1 2 3 4 5 6; do echo tick $n; sleep 0.3; done; exit 3", background=True)
    )
    await go(handle.disconnect())
    again = await go(run.sb.commands.connect(handle.pid))
    assert again.pid == handle.pid
    error = await run.raises("CommandExitException", again.wait)
    assert error.exit_code == 3 and "tick 6" in error.stdout
    late = await go(run.sb.commands.connect(handle.pid))
    error = await run.raises("CommandExitException", late.wait)
    assert error.exit_code == 3, "its end was forgotten"
    await run.raises("NotFoundException", lambda: connect_and_wait(run, 999_999))


async def connect_and_wait(run: Run, pid: int) -> object:
    return await go((await go(run.sb.commands.connect(pid))).wait())


@check("commands.run")
async def output_can_be_let_go(run: Run) -> None:
    run.takes(type(run.sb.commands).run, "retain_output")
    seen: list[str] = []
    done = await go(run.sb.commands.run("echo heard", on_stdout=seen.append, retain_output=False))
    assert done.stdout is None and seen == ["heard\n"]


@check("CommandHandle.wait", only="sync")
async def output_by_iterating(run: Run) -> None:
    handle = run.sb.commands.run("echo a; sleep 0.2; echo b >&2", background=True)
    pieces = list(handle)
    assert [(out, err) for out, err, _ in pieces] == [("a\n", None), (None, "b\n")], pieces


@check("commands.run")
async def it_survives_its_client(run: Run) -> None:
    handle = await go(run.sb.commands.run("sleep 1; echo survived > /tmp/survived", background=True))
    await go(handle.disconnect())
    assert await run.until(lambda: run.sb.files.exists("/tmp/survived"), 8)


@check("commands.run")
async def a_login_shell(run: Run) -> None:
    done = await go(run.sb.commands.run("shopt -q login_shell && echo login; echo $HOME $USER $LOGNAME"))
    assert done.stdout == "login\n/home/user user user\n", done.stdout


@check("CommandHandle.wait", only="async")
async def output_in_properties(run: Run) -> None:
    handle = await run.sb.commands.run("echo now; sleep 0.5; echo then", background=True)
    await run.until(lambda: handle.stdout == "now\n")
    assert handle.exit_code is None
    await handle.wait()
    assert handle.stdout == "now\nthen\n" and handle.exit_code == 0
