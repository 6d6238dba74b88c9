"""What a person sees who asks for something wrong."""

from __future__ import annotations

import os

from e2e.e2b.runners.harness import Run, check, go

UNKNOWN = "iaaaaaaaaaaaaaaaaaaaa"


@check("Sandbox.create", "Sandbox.get_info", "Sandbox.list")
async def a_wrong_key(run: Run) -> None:
    key = "e2b_" + "0" * 40
    await run.raises("AuthenticationException", lambda: run.Sandbox.create(api_key=key))
    await run.raises("AuthenticationException", lambda: run.Sandbox.get_info(run.sb.sandbox_id, api_key=key))
    await run.raises("AuthenticationException", lambda: run.Sandbox.list(api_key=key).next_items())


@check("Sandbox.get_info", "Sandbox.kill", "Sandbox.connect", "Sandbox.set_timeout", "Sandbox.list")
async def a_sandbox_of_another_project(run: Run) -> None:
    key, sandbox_id = os.environ["E2B_OTHER_KEY"], run.sb.sandbox_id
    await run.raises("NotFoundException", lambda: run.Sandbox.get_info(sandbox_id, api_key=key), sandbox_id)
    await run.raises("NotFoundException", lambda: run.Sandbox.connect(sandbox_id, api_key=key), sandbox_id)
    await run.raises("NotFoundException", lambda: run.Sandbox.set_timeout(sandbox_id, 60, api_key=key), sandbox_id)
    assert await go(run.Sandbox.kill(sandbox_id, api_key=key)) is False
    seen = await go(run.Sandbox.list(api_key=key).next_items())
    assert sandbox_id not in [item.sandbox_id for item in seen]
    assert await go(run.sb.is_running())


@check("Sandbox.get_info", "Sandbox.kill", "Sandbox.connect", "Sandbox.set_timeout", "Sandbox.get_metrics")
async def a_sandbox_that_is_not_there(run: Run) -> None:
    await run.raises("NotFoundException", lambda: run.Sandbox.get_info(UNKNOWN))
    await run.raises("NotFoundException", lambda: run.Sandbox.connect(UNKNOWN))
    await run.raises("NotFoundException", lambda: run.Sandbox.set_timeout(UNKNOWN, 60))
    await run.raises("SandboxException", lambda: run.Sandbox.get_metrics(UNKNOWN))
    assert await go(run.Sandbox.kill(UNKNOWN)) is False


@check("Sandbox.create")
async def a_template_that_is_not_there(run: Run) -> None:
    await run.raises("SandboxException", lambda: run.Sandbox.create("no-such-template"), "no-such-template")


@check("Sandbox.create")
async def a_life_beyond_the_limit(run: Run) -> None:
    await run.raises("SandboxException", lambda: run.Sandbox.create(timeout=40_000_000), "400", "Timeout cannot be")


@check("commands.run", "files.read", "Sandbox.is_running")
async def a_sandbox_that_was_killed(run: Run) -> None:
    sb = await run.create()
    await go(sb.kill())
    assert await go(sb.is_running()) is False
    await run.raises("SandboxException", lambda: sb.commands.run("true"))
    await run.raises("SandboxException", lambda: sb.files.read("/etc/hostname"))
    await run.raises("NotFoundException", sb.get_info)


@check("Sandbox.list")
async def a_page_too_large(run: Run) -> None:
    await run.raises("SandboxException", lambda: run.Sandbox.list(limit=101).next_items(), "400")
    await run.raises("SandboxException", lambda: run.Sandbox.list(next_token="nonsense!").next_items(), "400")
