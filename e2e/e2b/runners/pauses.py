"""Pausing and resuming, by hand, at the end of a sandbox's time, and by a request."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
import uuid
from typing import Any

from e2e.e2b.runners.harness import AbsentError, Run, check, go

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


async def state_of(run: Run, sb: Any) -> str:
    return str((await go(run.Sandbox.get_info(sb.sandbox_id))).state.value)


async def said(sb: Any, command: str, **options: Any) -> str:
    return str((await go(sb.commands.run(command, **options))).stdout).strip()


async def with_traces(run: Run, **options: Any) -> tuple[Any, int, str]:
    """A sandbox with a file on disk, one in memory and a program that runs: with its pid and the id of its boot."""
    sb = await run.create(**options)
    await go(sb.files.write("/home/user/kept", "on disk"))
    await go(sb.commands.run("echo in memory > /dev/shm/kept"))
    program = await go(sb.commands.run("sleep 1000", background=True, timeout=0))
    return sb, program.pid, await said(sb, BOOT_ID)


async def paused_by_itself(run: Run, sb: Any) -> None:
    """Wait until the service has paused `sb`. A busy machine is late with it: nothing here is said of when."""

    async def over() -> bool:
        return await state_of(run, sb) == "paused"

    await run.until(over, 20)


async def expect_all_there(sb: Any, pid: int, boot_id: str) -> None:
    assert await go(sb.files.read("/home/user/kept")) == "on disk"
    assert await said(sb, "cat /dev/shm/kept") == "in memory"
    assert pid in [one.pid for one in await go(sb.commands.list())], "the program is gone"
    assert await said(sb, BOOT_ID) == boot_id


async def expect_rebooted(sb: Any, pid: int, boot_id: str) -> None:
    assert await go(sb.files.read("/home/user/kept")) == "on disk"
    assert await said(sb, "ls /dev/shm") == ""
    assert pid not in [one.pid for one in await go(sb.commands.list())]
    assert await said(sb, "pgrep -x sleep || true") == "", "the program is still there"
    assert await said(sb, BOOT_ID) != boot_id


def files_only(run: Run) -> dict[str, Any]:
    """How this release asks for a pause that keeps files only."""
    try:
        run.takes(run.Sandbox._cls_pause, "mode")
        return {"mode": "filesystem"}
    except AbsentError:
        run.takes(run.Sandbox._cls_pause, "keep_memory")
        return {"keep_memory": False}


@check("Sandbox.pause", "Sandbox.connect", "Sandbox.is_running", "Sandbox.get_info")
async def pause_and_connect(run: Run) -> None:
    sb, pid, boot_id = await with_traces(run)
    paused = await go(sb.pause())
    assert await go(sb.is_running()) is False
    assert await state_of(run, sb) == "paused"
    again = await go(sb.pause())
    if isinstance(paused, bool):
        assert (paused, again) == (True, False)
    other = await go(run.Sandbox.connect(sb.sandbox_id, timeout=90))
    assert other.sandbox_id == sb.sandbox_id
    await expect_all_there(other, pid, boot_id)
    info = await go(sb.get_info())
    assert str(info.state.value) == "running"
    await go(sb.pause())
    await go(sb.connect())
    await expect_all_there(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.pause", "Sandbox.list", "Sandbox.kill", "Sandbox.get_metrics")
async def a_paused_one_from_outside(run: Run) -> None:
    # Its own mark: several clients are tried against one project at once.
    mark = {"mark": uuid.uuid4().hex}
    sb = await run.create(metadata=mark)
    running = await run.create(metadata=mark)
    await go(run.Sandbox.pause(sb.sandbox_id))

    async def listed(*names: str) -> list[str]:
        states = [getattr(run.e2b.SandboxState, name) for name in names]
        query = run.e2b.SandboxQuery(metadata=mark, **({"state": states} if states else {}))
        return [item.sandbox_id for item in await go(run.Sandbox.list(query=query).next_items())]

    assert await listed("PAUSED") == [sb.sandbox_id]
    assert await listed("RUNNING") == [running.sandbox_id]
    assert await listed("RUNNING", "PAUSED") == await listed() == [running.sandbox_id, sb.sandbox_id]
    await go(run.Sandbox.get_metrics(sb.sandbox_id))
    await run.raises("SandboxException", lambda: run.Sandbox.set_timeout(sb.sandbox_id, 60), "not found")
    assert await go(run.Sandbox.kill(sb.sandbox_id)) is True
    assert await go(run.Sandbox.kill(sb.sandbox_id)) is False
    assert await listed() == [running.sandbox_id]
    await run.raises("SandboxException", lambda: run.Sandbox.connect(sb.sandbox_id))
    await go(running.kill())


@check("Sandbox.beta_pause")
async def pause_in_its_former_spelling(run: Run) -> None:
    sb = await run.create()
    await go(sb.beta_pause())
    assert await state_of(run, sb) == "paused"
    await go(sb.kill())


@check("Sandbox.pause")
async def pause_with_a_healthy_agent(run: Run) -> None:
    run.takes(run.Sandbox._cls_pause, "strict")
    sb = await run.create()
    assert await go(sb.pause(strict=True)) is True
    assert await go(sb.pause(strict=True)) is False
    await go(sb.kill())


@check("Sandbox.pause", "Sandbox.connect")
async def pause_with_files_only(run: Run) -> None:
    asked = files_only(run)
    sb, pid, boot_id = await with_traces(run)
    assert await go(sb.pause(**asked)) is True
    assert await go(sb.is_running()) is False
    await go(sb.connect())
    await expect_rebooted(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.connect")
async def connect_by_reboot(run: Run) -> None:
    run.takes(run.Sandbox._cls_connect, "on_resume")
    sb, pid, boot_id = await with_traces(run)
    await go(sb.pause())
    await go(sb.connect(on_resume="reboot"))
    await expect_rebooted(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.create", "Sandbox.connect")
async def paused_at_the_end_of_its_time(run: Run) -> None:
    run.takes(run.Sandbox.create, "lifecycle")
    sb, pid, boot_id = await with_traces(run, lifecycle={"on_timeout": "pause"})
    await go(sb.set_timeout(1))
    await paused_by_itself(run, sb)
    assert await go(sb.is_running()) is False
    # Nothing wakes it but a connect.
    await run.raises("SandboxException", lambda: sb.commands.run("true"))
    assert await state_of(run, sb) == "paused"
    info = await go(sb.get_info())
    if getattr(info, "lifecycle", None) is not None:
        assert info.lifecycle == {"on_timeout": "pause", "auto_resume": False}
    await go(sb.connect(timeout=60))
    await expect_all_there(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.create", "Sandbox.connect")
async def paused_with_files_only_at_the_end_of_its_time(run: Run) -> None:
    on_timeout = {"action": "pause"} | files_only(run)
    sb, pid, boot_id = await with_traces(run, lifecycle={"on_timeout": on_timeout})
    await go(sb.set_timeout(1))
    await paused_by_itself(run, sb)
    await go(sb.connect(timeout=60))
    await expect_rebooted(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.beta_create")
async def paused_at_the_end_of_its_time_in_its_former_spelling(run: Run) -> None:
    sb = await go(run.Sandbox.beta_create(timeout=3, auto_pause=True))
    run.made.append(sb)
    await paused_by_itself(run, sb)
    await go(sb.kill())


@check("Sandbox.create", "commands.run")
async def woken_by_a_command(run: Run) -> None:
    run.takes(run.Sandbox.create, "lifecycle")
    sb, pid, boot_id = await with_traces(run, lifecycle={"on_timeout": "pause", "auto_resume": True})
    await go(sb.pause())
    assert await state_of(run, sb) == "paused"
    assert await said(sb, "echo awake") == "awake"
    assert await state_of(run, sb) == "running"
    await expect_all_there(sb, pid, boot_id)
    await go(sb.kill())


@check("Sandbox.create", "Sandbox.get_host")
async def woken_by_a_request_to_a_port(run: Run) -> None:
    run.takes(run.Sandbox.create, "lifecycle")
    sb = await run.create(lifecycle={"on_timeout": "pause", "auto_resume": True})
    await go(sb.files.write("/tmp/www/hello.txt", "served"))
    await go(sb.commands.run("cd /tmp/www && exec python3 -m http.server 8124", background=True, timeout=0))
    address = os.environ["E2B_SANDBOX_URL"] + "/hello.txt"
    request = urllib.request.Request(address, headers={"Host": sb.get_host(8124)})

    def fetch() -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()

    await run.until(lambda: fetch() == b"served")
    await go(sb.pause())
    assert await state_of(run, sb) == "paused"
    answer = fetch()
    assert answer == b"served", f"the first request was answered {answer!r}"
    assert await state_of(run, sb) == "running"
    await go(sb.kill())
