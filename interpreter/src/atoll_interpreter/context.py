"""One context: a kernel with its variables, in which one piece of code runs at a time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from typing import Any

import zmq.asyncio

from atoll_interpreter import languages, outputs
from atoll_interpreter.aio import log, spawn
from atoll_interpreter.errors import Refused
from atoll_interpreter.kernel import Kernel
from atoll_interpreter.line import Line
from atoll_interpreter.outbox import Outbox
from atoll_interpreter.settings import Settings

# An execution whose client has gone is interrupted once a second; a kernel that ignores that is started anew.
INTERRUPT_EVERY_S = 1.0
INTERRUPTS = 10
# Kernels send the reply before or shortly after they say that they are idle.
_REPLY_WAIT_S = 2.0
ABORTED_TRIES = 3
ABORTED_PAUSE_S = 0.1


class _Run:
    """One execution that the kernel was asked for. `background`: its output is for nobody."""

    def __init__(self, outbox: Outbox | None) -> None:
        self.outbox = outbox
        self.idle = asyncio.Event()
        self.replied = asyncio.Event()
        self.failed = False
        self.aborted = False
        self.lost: outputs.Output | None = None

    def put(self, output: outputs.Output) -> None:
        if output["type"] == "error":
            if self.failed:
                return
            self.failed = True
        if self.outbox is not None:
            self.outbox.put(output)

    def again(self) -> None:
        """It is asked for once more."""
        self.aborted = False
        self.idle.clear()
        self.replied.clear()

    def lose(self, error: outputs.Output) -> None:
        self.lost = error
        self.idle.set()
        self.replied.set()


class Context:
    """`envs`: the sandbox's own variables, as far as they are known; what is found out later is set in the kernel."""

    def __init__(
        self, identifier: str, language: str, cwd: str, settings: Settings, zmq_context: zmq.asyncio.Context
    ) -> None:
        self.id = identifier
        self.language = language
        self.cwd = cwd
        self._kernel = Kernel(language, cwd, settings, zmq_context, self._died, self._take)
        self._turn = asyncio.Lock()
        self._runs: dict[str, _Run] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._envs: Mapping[str, str] = {}
        self._closed = False
        self._holding = False

    def describe(self) -> dict[str, str]:
        """As clients are told of it."""
        return {"id": self.id, "language": self.language, "cwd": self.cwd}

    async def start(self, envs: Mapping[str, str], *, ahead: bool = False) -> None:
        """Start the kernel. Raises as `Kernel.start`."""
        async with self._turn:
            self._envs = dict(envs)
            await self._start(ahead=ahead)

    async def restart(self) -> None:
        """Start the kernel anew: its variables are gone, what runs is lost."""
        self._lose(outputs.error("ContextRestarting", "Context was restarted"))
        async with self._turn:
            await self._start()

    async def close(self) -> None:
        """End it; what runs is lost."""
        self._closed = True
        self._lose(outputs.error("UnexpectedEndOfExecution", "The context was removed before the execution ended"))
        await self._stop_readers()
        await self._kernel.stop()

    def execute(self, code: str, envs: Mapping[str, str], lasting: Mapping[str, str] | None) -> Outbox:
        """Run `code` after what was asked for before; its outputs come out of the outbox until it closes.

        `envs`: for this execution only. `lasting`: the sandbox's own variables, None when they are not known.
        Whoever goes away calls `Outbox.abandon`, and the execution is interrupted.
        """
        outbox = Outbox()
        spawn(self._execute(code, envs, lasting, outbox), name=f"execute-{self.id}")
        return outbox

    async def _execute(
        self, code: str, envs: Mapping[str, str], lasting: Mapping[str, str] | None, outbox: Outbox
    ) -> None:
        try:
            async with self._turn:
                if outbox.abandoned:
                    return
                if not self._kernel.alive:
                    await self._start()
                await self._run_with(code, envs, self._changed(lasting), outbox)
        except Refused as error:
            outbox.put(outputs.error(type(error).__name__, error.message))
            outbox.put(outputs.END)
        except Exception as error:
            log.exception("an execution failed")
            outbox.put(outputs.error("UnexpectedEndOfExecution", str(error)))
            outbox.put(outputs.END)
        finally:
            outbox.close()

    def _changed(self, lasting: Mapping[str, str] | None) -> Mapping[str, str]:
        if lasting is None:
            return {}
        changed = {name: value for name, value in lasting.items() if self._envs.get(name) != value}
        self._envs = dict(lasting)
        return changed

    async def _run_with(self, code: str, envs: Mapping[str, str], changed: Mapping[str, str], outbox: Outbox) -> None:
        along = self.language in languages.TAKE_VARIABLES
        if not along:
            await self._silently(languages.keep_variables(self.language, changed))
            await self._silently(languages.set_variables(self.language, envs))
        await self._run(code, outbox, {"keep": dict(changed), "envs": dict(envs)} if along else None)
        outbox.put(outputs.END)
        # The answer is whole; undoing the variables keeps only the next execution waiting.
        outbox.close()
        if not along and self._kernel.alive:
            await self._silently(languages.restore_variables(self.language, envs, self._envs))

    async def _silently(self, code: str) -> None:
        if code:
            await self._do(code, _Run(None), silent=True)

    async def _run(self, code: str, outbox: Outbox, variables: Mapping[str, object] | None) -> None:
        run = _Run(outbox)
        watching = spawn(self._interrupt_when_abandoned(outbox, run), name=f"watch-{self.id}")
        try:
            await self._do(code, run, silent=False, variables=variables)
            # Some kernels refuse what comes right after an interrupt, and have run none of it.
            for _ in range(ABORTED_TRIES):
                if not run.aborted or outbox.abandoned:
                    break
                await asyncio.sleep(ABORTED_PAUSE_S)
                run.again()
                await self._do(code, run, silent=False, variables=variables)
        finally:
            watching.cancel()
        if run.aborted:
            run.put(outputs.error("ExecutionAborted", "Execution was aborted"))
        if run.lost is not None:
            run.put(run.lost)

    async def _do(self, code: str, run: _Run, *, silent: bool, variables: Mapping[str, object] | None = None) -> None:
        identifier = self._kernel.ask(code, silent=silent, variables=variables)
        self._runs[identifier] = run
        try:
            await run.idle.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPLY_WAIT_S):
                    await run.replied.wait()
        finally:
            del self._runs[identifier]

    async def _interrupt_when_abandoned(self, outbox: Outbox, run: _Run) -> None:
        await outbox.until_abandoned()
        for _ in range(INTERRUPTS):
            await self._kernel.interrupt()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERRUPT_EVERY_S):
                    await run.idle.wait()
                    return
        log.warning("the kernel %s of context %s ignores interrupts: it is started anew", self.language, self.id)
        self._kernel.signal(signal.SIGKILL)

    async def warm(self) -> None:
        """Run nothing, as code is run: the first execution is slower than all others. Not while code runs."""
        if self._turn.locked():
            return
        async with self._turn:
            if self._kernel.alive:
                await self._silently(languages.nothing(self.language))

    async def _start(self, *, ahead: bool = False) -> None:
        await self._stop_readers()
        await self._kernel.start(self._envs, ahead=ahead)
        if self._kernel.line is not None:
            return
        client = self._kernel.client
        self._readers = [
            spawn(self._read_broadcasts(client), name=f"iopub-{self.id}"),
            spawn(self._read_replies(client), name=f"shell-{self.id}"),
        ]

    async def _stop_readers(self) -> None:
        readers, self._readers = self._readers, []
        for task in readers:
            task.cancel()
        if readers:
            await asyncio.wait(readers)

    async def _read_broadcasts(self, client: Any) -> None:
        while True:
            message = await client.get_iopub_msg()
            run = self._runs.get(message["parent_header"].get("msg_id", ""))
            if run is None:
                continue
            if message["header"]["msg_type"] == "status":
                if message["content"]["execution_state"] == "idle":
                    run.idle.set()
                continue
            for output in outputs.translate(message):
                run.put(output)
            if run.outbox is not None and run.outbox.full:
                await self._hold(run.outbox)

    def _take(self, message: Mapping[str, Any]) -> None:
        """One message that came over the line. The reply is the last about an execution."""
        run = self._runs.get(message["parent_header"]["msg_id"])
        if run is None:
            return
        if message["header"]["msg_type"] == "execute_reply":
            self._replied(run, message["content"])
            run.idle.set()
            return
        for output in outputs.translate(message):
            run.put(output)
        line = self._kernel.line
        if run.outbox is not None and run.outbox.full and line is not None and not self._holding:
            self._holding = True
            line.pause()
            spawn(self._hold_line(run.outbox, line), name=f"hold-{self.id}")

    async def _hold_line(self, outbox: Outbox, line: Line) -> None:
        try:
            await self._hold(outbox)
        finally:
            self._holding = False
            line.resume()

    async def _hold(self, outbox: Outbox) -> None:
        # The client reads slower than the code writes: the code waits, so that nothing is lost and nothing piles up.
        self._kernel.signal(signal.SIGSTOP)
        try:
            await outbox.room()
        finally:
            self._kernel.signal(signal.SIGCONT)

    async def _read_replies(self, client: Any) -> None:
        while True:
            message = await client.get_shell_msg()
            run = self._runs.get(message["parent_header"].get("msg_id", ""))
            if run is None or message["header"]["msg_type"] != "execute_reply":
                continue
            content = message["content"]
            if content.get("status") == "error":
                # Kernels broadcast it as well, but not all of them do; what was broadcast comes first.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_REPLY_WAIT_S):
                        await run.idle.wait()
            self._replied(run, content)

    def _replied(self, run: _Run, content: Mapping[str, Any]) -> None:
        if content.get("status") == "error":
            run.put(outputs.error(content.get("ename", ""), content.get("evalue", ""), content.get("traceback") or ""))
        elif content.get("status") in ("abort", "aborted"):
            run.aborted = True
            run.idle.set()
        run.replied.set()

    def _lose(self, error: outputs.Output) -> None:
        for run in list(self._runs.values()):
            run.lose(error)

    def _died(self, generation: int) -> None:
        log.warning("the kernel %s of context %s ended by itself", self.language, self.id)
        self._lose(outputs.error("ContextRestarting", "Context was restarted"))
        if not self._closed:
            spawn(self._heal(generation), name=f"heal-{self.id}")

    async def _heal(self, generation: int) -> None:
        async with self._turn:
            if self._closed or self._kernel.generation != generation:
                return
            try:
                await self._start()
            except Refused as error:
                log.error("the kernel %s could not be started again: %s", self.language, error.message)
