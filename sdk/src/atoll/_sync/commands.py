# Generated from `src/atoll/_async/commands.py` by `scripts/unasync.py`: change that, not this.
"""Commands of one sandbox: run to the end, start, list, attach, and terminals."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from atoll import _threads as backend
from atoll._sync.guest import Guest
from atoll._sync.process import REPLAY_FROM, Process, Input
from atoll._events import Result
from atoll._models import ProcessInfo
from atoll._process_wire import DEFAULT_SHELL, Command, display, pty_size, start_request


class Commands:
    """What `Sandbox.run`, `start`, `processes` and `attach` do."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def run(
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
        """See `Sandbox.run`."""
        process = self.start(cmd, cwd=cwd, envs=envs, user=user, timeout_s=timeout_s, stdin=stdin is not None)
        feeder = backend.Job(process.feed, stdin) if stdin is not None else None
        try:
            result = process.wait(on_stdout=on_stdout, on_stderr=on_stderr, check=check)
            if feeder is not None:
                feeder.finish()
            return result
        except BaseException:
            # Nobody else knows this process: left alone it would run for as long as the sandbox.
            if feeder is not None:
                feeder.abandon()
            if process.exit is None:
                _end(process)
            raise

    def start(
        self,
        cmd: Command,
        *,
        cwd: str | None,
        envs: Mapping[str, str] | None,
        user: str | None,
        timeout_s: float | None,
        stdin: bool,
    ) -> Process:
        """See `Sandbox.start`."""
        tag = _new_tag()
        request = start_request(cmd, cwd=cwd, envs=envs, tag=tag, stdin=stdin)
        process = Process(self._guest, tag=tag, label=display(cmd), timeout_s=timeout_s)
        _open(process, request, user)
        return process

    def list(self) -> Sequence[ProcessInfo]:
        """See `Sandbox.processes`."""
        answer = self._guest.unary("process.Process/List", {}, is_safe=True)
        found = answer.get("processes")
        return [ProcessInfo.from_json(item) for item in found] if isinstance(found, list) else []

    def attach(self, pid: int, *, replay: bool) -> Process:
        """See `Sandbox.attach`."""
        process = Process(self._guest, label=f"process {pid}", can_replay=replay)
        _connect(process, pid, replay)
        return process


class Pty(Process):
    """A terminal in the sandbox and the command in it; its output comes as `PtyOutput`."""

    def resize(self, cols: int, rows: int) -> None:
        """Tell the terminal its new size. Raises InvalidArgument outside 1 to 65535, NotFound when it has ended."""
        self._guest.unary("process.Process/Update", {**self._selector(), "pty": pty_size(cols, rows)})

    def send(self, data: str | bytes) -> None:
        """Type into the terminal; the same as `send_stdin`."""
        self.send_stdin(data)


class Ptys:
    """Terminals of one sandbox (`sandbox.pty`)."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def create(
        self,
        cols: int = 80,
        rows: int = 24,
        *,
        cmd: Command | None = None,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
    ) -> Pty:
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
        pty = Pty(self._guest, tag=tag, label=label, timeout_s=timeout_s, is_pty=True)
        _open(pty, request, user)
        return pty

    def attach(self, pid: int, *, replay: bool = True) -> Pty:
        """Take up a terminal that was disconnected; as `Sandbox.attach`."""
        pty = Pty(self._guest, label=f"terminal {pid}", is_pty=True, can_replay=replay)
        _connect(pty, pid, replay)
        return pty


def _connect(process: Process, pid: int, replay: bool) -> None:
    headers = {REPLAY_FROM: "0"} if replay else {}
    process.open("process.Process/Connect", {"process": {"pid": pid}}, user=None, headers=headers)


def _open(process: Process, request: dict[str, object], user: str | None) -> None:
    try:
        process.open("process.Process/Start", request, user=user, headers={})
    except Exception:
        raise
    except BaseException:
        # Interrupted or cancelled before anybody knew the process id: its tag is enough to end it.
        _end(process)
        raise


def _end(process: Process) -> None:
    try:
        process.kill()
        process.disconnect()
    except Exception:
        # The caller is already being told why it stopped; a second error would hide the first.
        return


def _new_tag() -> str:
    return "atoll-" + secrets.token_hex(8)
