"""Commands of one sandbox: run to the end, start, list, attach, and terminals."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from atoll import _aio as backend
from atoll._async.guest import AsyncGuest
from atoll._async.process import REPLAY_FROM, AsyncProcess, Input
from atoll._events import Result
from atoll._models import ProcessInfo
from atoll._process_wire import DEFAULT_SHELL, Command, display, pty_size, start_request


class AsyncCommands:
    """What `AsyncSandbox.run`, `start`, `processes` and `attach` do."""

    def __init__(self, guest: AsyncGuest) -> None:
        self._guest = guest

    async def run(
        self,
        cmd: Command,
        *,
        cwd: str | None,
        envs: Mapping[str, str] | None,
        user: str | None,
        timeout_s: float | None,
        stdin: Input | None,
        on_stdout: backend.Callback[str] | None,
        on_stderr: backend.Callback[str] | None,
        check: bool,
    ) -> Result:
        """See `AsyncSandbox.run`."""
        process = await self.start(cmd, cwd=cwd, envs=envs, user=user, timeout_s=timeout_s, stdin=stdin is not None)
        feeder = backend.Job(process.feed, stdin) if stdin is not None else None
        try:
            result = await process.wait(on_stdout=on_stdout, on_stderr=on_stderr, check=check)
            if feeder is not None:
                await feeder.finish()
            return result
        except BaseException:
            # Nobody else knows this process: left alone it would run for as long as the sandbox.
            if feeder is not None:
                await feeder.abandon()
            if process.exit is None:
                await _end(process)
            raise

    async def start(
        self,
        cmd: Command,
        *,
        cwd: str | None,
        envs: Mapping[str, str] | None,
        user: str | None,
        timeout_s: float | None,
        stdin: bool,
    ) -> AsyncProcess:
        """See `AsyncSandbox.start`."""
        tag = _new_tag()
        request = start_request(cmd, cwd=cwd, envs=envs, tag=tag, stdin=stdin)
        process = AsyncProcess(self._guest, tag=tag, label=display(cmd), timeout_s=timeout_s)
        await _open(process, request, user)
        return process

    async def list(self) -> Sequence[ProcessInfo]:
        """See `AsyncSandbox.processes`."""
        answer = await self._guest.unary("process.Process/List", {}, is_safe=True)
        found = answer.get("processes")
        return [ProcessInfo.from_json(item) for item in found] if isinstance(found, list) else []

    async def attach(self, pid: int, *, replay: bool) -> AsyncProcess:
        """See `AsyncSandbox.attach`."""
        process = AsyncProcess(self._guest, label=f"process {pid}", can_replay=replay)
        await _connect(process, pid, replay)
        return process


class AsyncPty(AsyncProcess):
    """A terminal in the sandbox and the command in it; its output comes as `PtyOutput`."""

    async def resize(self, cols: int, rows: int) -> None:
        """Tell the terminal its new size. Raises InvalidArgument outside 1 to 65535, NotFound when it has ended."""
        await self._guest.unary("process.Process/Update", {**self._selector(), "pty": pty_size(cols, rows)})

    async def send(self, data: str | bytes) -> None:
        """Type into the terminal; the same as `send_stdin`."""
        await self.send_stdin(data)


class AsyncPtys:
    """Terminals of one sandbox (`sandbox.pty`)."""

    def __init__(self, guest: AsyncGuest) -> None:
        self._guest = guest

    async def create(
        self,
        cols: int = 80,
        rows: int = 24,
        *,
        cmd: Command | None = None,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncPty:
        """Open a terminal of `cols` times `rows` characters with `cmd` in it.

        cmd: None for an interactive login shell (bash where there is one, else sh); otherwise as in `run`.
        envs: TERM, LANG and LC_ALL are set to xterm-256color and C.UTF-8 unless given here.
        timeout_s: seconds until it is killed; None for no limit.

        Raises InvalidArgument for a size, directory or user that does not exist, SandboxEnded.
        """
        tag = _new_tag()
        command = DEFAULT_SHELL if cmd is None else cmd
        all_envs = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(envs or {})}
        request = start_request(command, cwd=cwd, envs=all_envs, tag=tag, stdin=False, pty=(cols, rows))
        label = "a shell" if cmd is None else display(cmd)
        pty = AsyncPty(self._guest, tag=tag, label=label, timeout_s=timeout_s, is_pty=True)
        await _open(pty, request, user)
        return pty

    async def attach(self, pid: int, *, replay: bool = True) -> AsyncPty:
        """Take up a terminal that was disconnected; as `AsyncSandbox.attach`."""
        pty = AsyncPty(self._guest, label=f"terminal {pid}", is_pty=True, can_replay=replay)
        await _connect(pty, pid, replay)
        return pty


async def _connect(process: AsyncProcess, pid: int, replay: bool) -> None:
    headers = {REPLAY_FROM: "0"} if replay else {}
    await process.open("process.Process/Connect", {"process": {"pid": pid}}, user=None, headers=headers)


async def _open(process: AsyncProcess, request: dict[str, object], user: str | None) -> None:
    try:
        await process.open("process.Process/Start", request, user=user, headers={})
    except Exception:
        raise
    except BaseException:
        # Interrupted or cancelled before anybody knew the process id: its tag is enough to end it.
        await _end(process)
        raise


async def _end(process: AsyncProcess) -> None:
    try:
        await process.kill()
        await process.disconnect()
    except Exception:
        # The caller is already being told why it stopped; a second error would hide the first.
        return


def _new_tag() -> str:
    return "atoll-" + secrets.token_hex(8)
