"""The end of a build with a start command: it is started, found ready, and the memory is saved with it running."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from atolld.control.builds.failing import FINALIZE, StepFailed
from atolld.control.builds.lines import Lines
from atolld.control.builds.sandbox import StepSandbox, StepSandboxes
from atolld.control.builds.shared import Say
from atolld.core.build import BuildSpec, Built
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import InvalidArgument

READY_PATIENCE_S = 300.0
# What is there to wait for when nobody says when it is ready.
SETTLE_S = 20.0
_ASK_EVERY_S = 0.5
_SHELLS = (("/bin/bash", "-l", "-c"), ("/bin/sh", "-c"))


Save = Callable[[StepSandbox], Coroutine[Any, Any, None]]


class Finalizer:
    """Starts, waits, and lets the caller save."""

    def __init__(self, sandboxes: StepSandboxes, clock: Clock, patience_s: float = READY_PATIENCE_S) -> None:
        self._sandboxes = sandboxes
        self._clock = clock
        self._patience_s = patience_s

    async def finalize(
        self,
        spec: BuildSpec,
        built: Built,
        roots: tuple[Path, ...],
        template_id: str,
        commands: tuple[str | None, str | None],
        save: Save,
        say: Say,
    ) -> None:
        """Boot what was built, run the first of `commands` until the second one ends with 0, then call `save`.

        Without a ready command a start command is given 20 s. Raises StepFailed when the start command ends otherwise
        than with 0 before it was ready, or is not ready after five minutes; and what `save` raises.
        """
        start, ready = commands
        defaults = built.defaults
        async with self._sandboxes.open(
            spec,
            roots,
            template_id=template_id,
            user=defaults.user,
            workdir=defaults.workdir,
            envs=defaults.envs,
            lend=False,
        ) as sandbox:
            shell = await self._shell(sandbox, defaults.user)
            # The list of its last lines is what a failure tells.
            lines = Lines(lambda line: say("info", f"[start] {line}"))
            started = self._start(sandbox, shell, start, built, lines, say)
            try:
                await self._until_ready(sandbox, shell, ready, built, started, lines.last, say)
                say("info", "[finalize] saving memory and files")
                await save(sandbox)
            finally:
                # The stream is given up, not the command: what was saved goes on with it.
                await cancel_and_wait(started)
                lines.end()

    def _start(
        self, sandbox: StepSandbox, shell: tuple[str, ...], start: str | None, built: Built, lines: Lines, say: Say
    ) -> asyncio.Task[int] | None:
        if start is None:
            return None
        say("info", f"[finalize] starting {start!r}")
        return spawn(
            sandbox.run(
                (*shell, start), user=built.defaults.user, cwd=built.defaults.workdir, envs={}, on_output=lines.feed
            ),
            name="start-command",
            report=False,
        )

    async def _until_ready(
        self,
        sandbox: StepSandbox,
        shell: tuple[str, ...],
        ready: str | None,
        built: Built,
        started: asyncio.Task[int] | None,
        last: deque[str],
        say: Say,
    ) -> None:
        deadline = self._clock.monotonic() + (self._patience_s if ready is not None else SETTLE_S)
        if ready is not None:
            say("info", f"[finalize] waiting until {ready!r} succeeds")
        elif started is None:
            return
        said: deque[str] = deque(maxlen=5)
        if started is not None:
            # A ready command that always succeeds must not overtake what it waits for.
            await self._clock.sleep(_ASK_EVERY_S)
        while True:
            if started is not None and started.done() and (status := started.result()) != 0:
                raise StepFailed(
                    f"the start command ended with exit code {status} before it was ready",
                    FINALIZE,
                    exit_code=status,
                    last_lines=tuple(last),
                )
            if ready is not None:
                said.clear()
                answer = Lines(said.append)
                status = await sandbox.run(
                    (*shell, ready),
                    user=built.defaults.user,
                    cwd=built.defaults.workdir,
                    envs={},
                    on_output=answer.feed,
                )
                answer.end()
                if status == 0:
                    return
            if self._clock.monotonic() >= deadline:
                if ready is None:
                    return
                raise StepFailed(
                    f"the ready command {ready!r} has not succeeded within {self._patience_s:g} s",
                    FINALIZE,
                    last_lines=tuple(said) or tuple(last),
                )
            await self._clock.sleep(_ASK_EVERY_S)

    async def _shell(self, sandbox: StepSandbox, user: str) -> tuple[str, ...]:
        for shell in _SHELLS:
            try:
                if await sandbox.run((*shell, "exit 0"), user=user, cwd="/", envs={}, on_output=lambda *_: None) == 0:
                    return shell
            except InvalidArgument:
                continue
        raise StepFailed("there is no shell in the image to run the start command with", FINALIZE)
