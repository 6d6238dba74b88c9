# Generated from `src/atoll/_async/sandbox.py` by `scripts/unasync.py`: change that, not this.
"""A sandbox: made, found, used and ended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from atoll import _threads as backend
from atoll._sync.commands import Commands, Ptys
from atoll._sync.files import Files
from atoll._sync.guest import Guest
from atoll._sync.http import Call, Http
from atoll._sync.listing import SandboxList
from atoll._sync.process import Process, Input
from atoll._config import Config
from atoll._errors import AtollError, InvalidArgument, NotFound
from atoll._events import Result
from atoll._models import LogEntry, Metrics, ProcessInfo, SandboxInfo
from atoll._process_wire import Command

# Making a sandbox may wait for room and, the first time, for a template's layers.
CREATE_TIMEOUT_S = 300.0


class Sandbox:
    """One isolated Linux environment. Made by `create` or found by `connect`, not by calling the class.

    As a context manager it is killed at the end, whatever happened in between. All methods raise SandboxEnded once
    the sandbox is not running any more, ConnectionFailed when the daemon cannot be reached, Unauthenticated when the
    key is not accepted.

    id: the sandbox's id. files: its file system. pty: its terminals. created: its state when this object was made;
    `info` asks for the state now.
    """

    def __init__(self, http: Http, info: SandboxInfo) -> None:
        self._http = http
        self._guest = Guest(http, info.id)
        self._commands = Commands(self._guest)
        self.id = info.id
        self.created = info
        self.files = Files(self._guest)
        self.pty = Ptys(self._guest)

    @classmethod
    def create(  # noqa: PLR0913 - keyword-only: eleven plain facts about one sandbox read best in one call
        cls,
        *,
        template: str = "base",
        runtime: str = "gvisor",
        cpu: float = 1,
        memory_mib: int = 512,
        disk_mib: int | None = None,
        pids_max: int | None = None,
        timeout_s: int | None = 300,
        envs: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        internet: bool = True,
        config: Config | None = None,
    ) -> Sandbox:
        """Make a sandbox and wait until it answers.

        template: name of what it starts from. runtime: what isolates it: "gvisor" or "container".
        cpu: cores, 0.1 to 256. memory_mib: MiB, from 64. disk_mib: MiB that it may write, from 64; the daemon's
        default is 10240. pids_max: processes and threads, from 16; the daemon's default is 1024.
        timeout_s: seconds after which it is ended, whatever it does; None for never.
        envs: variables of every process in it. metadata: yours; stored, shown, and filtered by in `list`.
        internet: whether it reaches public addresses; the host and other sandboxes it never does.
        config: which daemon; None for `Config.load()`.

        A lost connection does not make two of them: the request carries a key by which the daemon knows it again. When
        this call is interrupted or cancelled, it waits for the daemon's answer and kills what was made.

        Raises InvalidArgument for a value out of range, NotFound for an unknown template or runtime, Capacity when the
        machine has no room, LimitExceeded at a limit of the project, RuntimeUnusable when that machine cannot run it.
        """
        http = Http(config or Config.load())
        body: dict[str, object] = {
            "template": template,
            "runtime": runtime,
            "cpu": cpu,
            "memory_mib": memory_mib,
            "timeout_s": timeout_s,
            "envs": dict(envs or {}),
            "metadata": dict(metadata or {}),
            "internet": internet,
        }
        if disk_mib is not None:
            body["disk_mib"] = disk_mib
        if pids_max is not None:
            body["pids_max"] = pids_max
        call = _post("/v1/sandboxes", body, is_safe=True, read_timeout_s=CREATE_TIMEOUT_S)
        request = backend.Job(http.json, call)
        try:
            return cls(http, SandboxInfo.from_json(request.finish()))
        except Exception:
            raise
        except BaseException:
            # Interrupted or cancelled: the sandbox may come up all the same, and nobody would know its id.
            _undo(http, request)
            raise

    @classmethod
    def connect(cls, id: str, *, timeout_s: int | None = None, config: Config | None = None) -> Sandbox:
        """The running sandbox with this id.

        timeout_s: let it live at least so many seconds from now; None leaves its time as it is. Raises NotFound.
        """
        http = Http(config or Config.load())
        guest = Guest(http, _checked_id(id))
        if timeout_s is None:
            call = Call("GET", guest.own_path(), is_safe=True)
        else:
            call = _post(guest.own_path("/connect"), {"timeout_s": timeout_s}, is_safe=True)
        return cls(http, SandboxInfo.from_json(http.json(call)))

    @classmethod
    def list(
        cls,
        *,
        state: str | Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        template: str | None = None,
        started_after: datetime | None = None,
        order: str = "desc",
        page_size: int = 100,
        config: Config | None = None,
    ) -> SandboxList:
        """The sandboxes of your project, newest first; iterate over it, or take it page by page.

        state: "creating", "running", "stopping" or "ended", or several of them; all by default, ended ones for as long
        as they are remembered. metadata: only those that have all these entries. started_after: an aware datetime.
        order: "desc" or "asc" by start. page_size: 1 to 100 for each request. Nothing is asked before the first page
        is needed. Raises InvalidArgument then for a filter that the daemon does not accept.
        """
        params: dict[str, str | Sequence[str]] = {"order": order, "limit": str(page_size)}
        if state is not None:
            params["state"] = state
        if metadata:
            params["metadata"] = urlencode(dict(metadata))
        if template is not None:
            params["template"] = template
        if started_after is not None:
            params["started_after"] = started_after.astimezone().isoformat()
        return SandboxList(Http(config or Config.load()), params)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def run(
        self,
        cmd: Command,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
        stdin: Input | None = None,
        on_stdout: backend.Callback[str] | None = None,
        on_stderr: backend.Callback[str] | None = None,
        check: bool = False,
    ) -> Result:
        """Run a command to its end.

        cmd: a string is given to `/bin/sh -c`; a list is executed as it is, its first word searched for in PATH.
        cwd: directory, by default the user's home. envs: added to the sandbox's. user: by default `user`.
        timeout_s: seconds until the command is killed; None for no limit but the sandbox's own.
        stdin: text, bytes, an open binary file or an iterable of bytes, followed by its end; None for an empty input.
        on_stdout, on_stderr: called with each piece of text as it comes; the result has all of it nevertheless.

        A command that fails is a Result with its exit code. Raises InvalidArgument when the command, directory or
        user does not exist, Timeout (with what was printed so far) when `timeout_s` is over, CommandFailed with
        `check`, OutputLost when a broken connection cost output, LimitExceeded past 256 MiB of output (the command is
        killed; use `start`).
        """
        return self._commands.run(
            cmd,
            cwd=cwd,
            envs=envs,
            user=user,
            timeout_s=timeout_s,
            stdin=stdin,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            check=check,
        )

    def start(
        self,
        cmd: Command,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout_s: float | None = None,
        stdin: bool = False,
    ) -> Process:
        """Start a command and return while it runs; arguments as in `run`.

        stdin: whether `send_stdin` will be used; without it the command's input is empty. The command runs on when
        this program goes away; `attach` takes it up again.
        """
        return self._commands.start(cmd, cwd=cwd, envs=envs, user=user, timeout_s=timeout_s, stdin=stdin)

    def processes(self) -> Sequence[ProcessInfo]:
        """The processes that were started through `run`, `start` and `pty` and still run."""
        return self._commands.list()

    def attach(self, pid: int, *, replay: bool = True) -> Process:
        """Read the events of a process that was started before, also shortly (30 s) after its end.

        replay: begin with what the agent still keeps of its output, up to 256 KiB; if more was printed, a `Gap` with
        the missing bytes comes first. False: only what is printed from now on. Raises NotFound.
        """
        return self._commands.attach(pid, replay=replay)

    def info(self) -> SandboxInfo:
        """Its state now."""
        call = Call("GET", self._guest.own_path(), is_safe=True)
        return SandboxInfo.from_json(self._guest.json(call))

    def is_running(self) -> bool:
        """Whether it is still there."""
        try:
            return (self.info()).ended_at is None
        except NotFound:
            return False

    def set_timeout(self, timeout_s: int | None) -> SandboxInfo:
        """Let it end `timeout_s` seconds from now, sooner or later than before; None for never."""
        return self._update("/timeout", "POST", {"timeout_s": timeout_s})

    def set_internet(self, internet: bool) -> SandboxInfo:
        """Open or cut its way to public addresses; connections that exist are cut, too."""
        return self._update("/network", "PUT", {"internet": internet})

    def kill(self) -> bool:
        """End it at once and remove everything of it. False when it had ended already; never SandboxEnded."""
        try:
            self._guest.json(Call("DELETE", self._guest.own_path(), is_safe=True))
        except NotFound:
            return False
        return True

    def metrics(self, *, start: datetime | None = None, end: datetime | None = None) -> Sequence[Metrics]:
        """Samples of what it used, oldest first, between two aware datetimes; by default all that are kept."""
        params = {
            name: value.astimezone().isoformat()
            for name, value in (("start", start), ("end", end))
            if value is not None
        }
        call = Call("GET", self._guest.own_path("/metrics"), params=params, is_safe=True)
        return [Metrics.from_json(item) for item in _items(self._guest.json(call))]

    def logs(self, *, limit_bytes: int = 64 * 1024) -> Sequence[LogEntry]:
        """The last lines that its agent logged, oldest first; as many as `limit_bytes` (up to 1 MiB) hold."""
        params = {"limit_bytes": str(limit_bytes)}
        call = Call("GET", self._guest.own_path("/logs"), params=params, is_safe=True)
        return [LogEntry.from_json(item) for item in _items(self._guest.json(call))]

    def get_url(self, port: int, path: str = "") -> str:
        """The address of a server in the sandbox that listens on `port`, on any address, its loopback included.

        Requests to it need the API key (`X-API-Key`), as all of the daemon's; `request` sends it.
        """
        if not 1 <= port <= 65535:
            raise InvalidArgument(f"port is {port}; it must be between 1 and 65535")
        return f"{self._http.config.api_url}{self._guest.own_path(f'/ports/{port}/')}{path.lstrip('/')}"

    def request(
        self,
        method: str,
        port: int,
        path: str = "/",
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One HTTP request to a server in the sandbox; whatever it answers is returned, its errors too.

        Raises ConnectionFailed when the daemon cannot be reached.
        """
        client = backend.shared_client(self._http.config)
        limit_s = self._http.config.request_timeout_s if timeout_s is None else timeout_s
        return self._http.plain(
            client.build_request(
                method,
                self.get_url(port, path),
                params=params,
                headers=dict(headers or {}),
                content=content,
                timeout=httpx.Timeout(limit_s, connect=self._http.config.connect_timeout_s),
            )
        )

    def _update(self, path: str, method: str, body: Mapping[str, object]) -> SandboxInfo:
        call = Call(
            method,
            self._guest.own_path(path),
            headers={"content-type": "application/json"},
            content=json.dumps(body).encode(),
            is_safe=True,
        )
        return SandboxInfo.from_json(self._guest.json(call))


def _post(path: str, body: Mapping[str, object], *, is_safe: bool, read_timeout_s: float | None = None) -> Call:
    headers = {"content-type": "application/json", "idempotency-key": secrets.token_hex(16)}
    return Call(
        "POST",
        path,
        headers=headers,
        content=_encode(body),
        read_timeout_s=read_timeout_s,
        is_safe=is_safe,
    )


def _undo(http: Http, request: backend.Job[Any]) -> None:
    try:
        made = SandboxInfo.from_json(request.finish())
        http.json(Call("DELETE", Guest(http, made.id).own_path(), is_safe=True))
    except AtollError:
        # Not made, or gone already; the interruption is what the caller is told of.
        return


def _encode(body: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"a value cannot be sent as JSON: {error}") from error


def _items(answer: Any) -> Sequence[Any]:
    found = answer.get("items") if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def _checked_id(id: str) -> str:
    if not id or not id.replace("-", "").replace("_", "").isalnum():
        # What cannot be an id would reach another path of the daemon.
        raise NotFound(f"there is no sandbox {id[:80]!r}")
    return id
