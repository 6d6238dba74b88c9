# Generated from `src/atoll/_async/sandbox.py` by `scripts/unasync.py`: change that, not this.
"""A sandbox: made, found, used and ended."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

import httpx

from atoll import _threads as backend
from atoll._sync.building import Builder, OnLog
from atoll._sync.code import Code
from atoll._sync.commands import Commands, Ptys
from atoll._sync.files import Files
from atoll._sync.guest import Guest
from atoll._sync.http import Call, Http
from atoll._sync.listing import SandboxList
from atoll._sync.process import Process, Input
from atoll._sync.requests import SLOW_TIMEOUT_S, checked_id, items, json_call
from atoll._sync.resume import Resume
from atoll._sync.snapshots import Checkpoints, Snapshot
from atoll._sync.state import State
from atoll._config import Config
from atoll._errors import AtollError, ForkFailed, InvalidArgument, NotFound
from atoll._events import Result
from atoll._image import Image
from atoll._models import LogEntry, Metrics, ProcessInfo, SandboxInfo
from atoll._process_wire import Command
from atoll._state_models import UNCHANGED, OnIdle, OnTimeout, Unchanged

_Made = tuple[Sequence[SandboxInfo], Sequence[AtollError]]


class Sandbox:
    """One isolated Linux environment. Made by `create` or found by `connect` or `get`, not by calling the class.

    As a context manager it is killed at the end, whatever happened in between. All methods raise SandboxEnded once
    the sandbox has ended, ConnectionFailed when the daemon cannot be reached, Unauthenticated when the
    key is not accepted.

    id: the sandbox's id. files: its file system. pty: its terminals. code: its code interpreter. created: its state
    when this object was made; `info` asks for the state now.

    resume: `sandbox.resume()` brings this one back from a pause or out of a freeze, and tells whether it had to;
    `Sandbox.resume(id)` does it to the one with that id and returns it.
    """

    resume = Resume()

    def __init__(self, http: Http, info: SandboxInfo) -> None:
        self._http = http
        self._guest = Guest(http, info.id)
        self._commands = Commands(self._guest)
        self.id = info.id
        self.created = info
        self._state = State(self._guest)
        self.files = Files(self._guest)
        self.pty = Ptys(self._guest)
        self.code = Code(self._guest)

    @classmethod
    def create(  # noqa: PLR0913 - keyword-only: plain facts about one sandbox read best in one call
        cls,
        *,
        template: str | Snapshot = "base",
        image: Image | None = None,
        on_build: OnLog | None = None,
        runtime: str | None = None,
        cpu: float | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        pids_max: int | None = None,
        timeout_s: int | None = 300,
        envs: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        internet: bool = True,
        on_timeout: OnTimeout = "kill",
        keep_memory: bool = True,
        auto_resume: bool = True,
        idle_timeout_s: int | None = None,
        on_idle: OnIdle = "freeze",
        pause_after_s: int | None = None,
        config: Config | None = None,
    ) -> Sandbox:
        """Make a sandbox and wait until it answers.

        template: what it starts from: a template's name, or a snapshot, its name or its id. image: an `Image` instead,
        built when it is first used; on_build: told of each line of that build's log. runtime: what isolates it:
        "gvisor" or "container". cpu: cores, 0.1 to 256. memory_mib: MiB, from 64. disk_mib: MiB that it may write, from
        64. pids_max: processes and threads, from 16. Left out, these are the template's (gvisor, 1, 512, 10240 and 1024
        for most); from a snapshot they are what it was taken with.
        timeout_s: seconds after which `on_timeout` is done, whatever it does; None for never.
        envs: variables of every process in it. metadata: yours; stored, shown, and filtered by in `list`.
        internet: whether it reaches public addresses; the host and other sandboxes it never does.
        on_timeout: "kill" or "pause". idle_timeout_s: seconds without a request and with next to no CPU use after which
        `on_idle` is done: "freeze" stops its processes and keeps its memory, "pause" saves it to disk. pause_after_s:
        seconds frozen after which it is paused. keep_memory: False makes those pauses keep its files only.
        auto_resume: whether a request to it wakes it when it is paused; frozen, it is always woken.
        config: which daemon; None for `Config.load()`.

        A lost connection does not make two of them: the request carries a key by which the daemon knows it again. When
        this call is interrupted or cancelled, it waits for the daemon's answer and kills what was made.

        Raises InvalidArgument for a value out of range, NotFound for an unknown template or runtime, Capacity when the
        machine has no room, LimitExceeded at a limit of the project, RuntimeUnusable when that machine cannot run it,
        BuildError when a step of the image fails.
        """
        http = Http(config or Config.load())
        if image is not None:
            if template != "base":
                raise InvalidArgument("a sandbox starts from a template or an image: give one of them")
            bounds = {
                "runtime": runtime,
                "cpu": cpu,
                "memory_mib": memory_mib,
                "disk_mib": disk_mib,
                "pids_max": pids_max,
            }
            asked_for = {name: value for name, value in bounds.items() if value is not None}
            template = Builder(http, on_build).image(image, asked_for)
        body: dict[str, object] = {
            "template": template if isinstance(template, str) else template.id,
            "timeout_s": timeout_s,
            "envs": dict(envs or {}),
            "metadata": dict(metadata or {}),
            "internet": internet,
        }
        asked = {
            "runtime": runtime,
            "cpu": cpu,
            "memory_mib": memory_mib,
            "disk_mib": disk_mib,
            "pids_max": pids_max,
            "on_timeout": None if on_timeout == "kill" else on_timeout,
            "keep_memory": None if keep_memory else False,
            "auto_resume": None if auto_resume else False,
            "idle_timeout_s": idle_timeout_s,
            "on_idle": None if on_idle == "freeze" else on_idle,
            "pause_after_s": pause_after_s,
        }
        # What is as the daemon's defaults are is not sent: an older daemon may not know of it.
        body |= {name: value for name, value in asked.items() if value is not None}
        making = backend.Job(_create, http, body, starts=False)
        (info,), _ = _finish_or_undo(http, making)
        return cls(http, info)

    @classmethod
    def connect(cls, id: str, *, timeout_s: int | None = None, config: Config | None = None) -> Sandbox:
        """The sandbox with this id, running: it is resumed when it is paused or frozen.

        timeout_s: let it live at least so many seconds from now; None leaves its time as it is, or, when it was paused,
        gives it as long as it was made to live. Raises NotFound, and Capacity when there is no room to resume it.
        """
        http = Http(config or Config.load())
        body: dict[str, object] = {} if timeout_s is None else {"timeout_s": timeout_s}
        path = Guest(http, checked_id(id)).own_path("/connect")
        call = json_call("POST", path, body, is_safe=True, read_timeout_s=SLOW_TIMEOUT_S)
        return cls(http, SandboxInfo.from_json(http.json(call)))

    @classmethod
    def get(cls, id: str, *, config: Config | None = None) -> Sandbox:
        """The sandbox with this id as it is: a paused one stays paused. Raises NotFound."""
        http = Http(config or Config.load())
        call = Call("GET", Guest(http, checked_id(id)).own_path(), is_safe=True)
        return cls(http, SandboxInfo.from_json(http.json(call)))

    @classmethod
    def _resume_by_id(
        cls, id: str, *, timeout_s: int | None = None, keep_memory: bool = True, config: Config | None = None
    ) -> Sandbox:
        """The sandbox with this id, running. As `sandbox.resume()`; raises NotFound."""
        sandbox = cls.get(id, config=config)
        sandbox.resume(timeout_s=timeout_s, keep_memory=keep_memory)
        return sandbox

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

        state: one or several of those of `SandboxInfo.state`; by default all but "ended", which are listed for as long
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
        """Whether it has not ended; one that is paused or frozen has not."""
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

    def pause(self, *, keep_memory: bool = True) -> bool:
        """Save it to disk and free its memory and CPU; `resume`, `connect` or a request to it brings it back.

        Its processes go on from where they were, its connections to the outside are closed. Its timeout does not run
        meanwhile. keep_memory: False ends its processes and keeps its files only. False when it was paused already.
        Raises FailedPrecondition when it cannot be saved, with the reason; it goes on then.
        """
        return self._state.pause(keep_memory)

    def _resume_this(self, *, timeout_s: int | None = None, keep_memory: bool = True) -> bool:
        """Bring it back from a pause or out of a freeze. False when it ran already.

        timeout_s: how long it lives from now; None for as long as it was made to live. keep_memory: False boots it anew
        from its files although its memory was saved. Raises Capacity when there is no room for it; it stays paused.
        """
        return self._state.resume(timeout_s, keep_memory)

    def freeze(self) -> SandboxInfo:
        """Stop its processes where they are and keep its memory; the next request to it wakes it, in milliseconds."""
        return self._state.freeze()

    def snapshot(self, name: str | None = None, *, keep_memory: bool = True) -> Snapshot:
        """Keep it as it is now; it goes on, after having stood still for `stopped_ms`.

        name: 1 to 128 of `a-z 0-9 . _ - /`, optionally `:` and a tag; one that another snapshot has moves to this one.
        keep_memory: False keeps its files only: what starts from it boots. Raises FailedPrecondition when it cannot be
        saved, with the reason.
        """
        return self._state.snapshot(name, keep_memory)

    def fork(
        self, count: int = 1, *, timeout_s: int | None = None, partial: bool = False
    ) -> Sequence[Sandbox]:
        """`count` (1 to 100) new sandboxes with the memory and files that it has now; it goes on.

        timeout_s: how long they live; None for as long as this one was made to live. partial: return those that came
        up when some did not; without it they are ended, and ForkFailed is raised. When this call is interrupted or
        cancelled, it waits for the daemon's answer and kills what was made.
        """
        http = self._http
        made, failed = _finish_or_undo(http, backend.Job(self._state.fork, count, timeout_s, starts=False))
        siblings = [type(self)(http, info) for info in made]
        if failed and not (partial and siblings):
            for sibling in siblings:
                sibling.kill()
            raise ForkFailed(f"{len(failed)} of {count} siblings did not come up: {failed[0].message}", failed)
        return siblings

    def rollback(self, snapshot: Snapshot | str) -> SandboxInfo:
        """Put it back to a snapshot of its own tree: same id, the memory and files of then. What it did since is lost.

        snapshot: the snapshot, its name or its id. Raises NotFound, FailedPrecondition when it is another tree's.
        """
        return self._state.rollback(snapshot if isinstance(snapshot, str) else snapshot.id)

    def checkpoints(self) -> Checkpoints:
        """The tree of its checkpoints, those of its ancestors and forks included; `print` draws it."""
        return self._state.checkpoints()

    def set_lifecycle(
        self,
        *,
        on_timeout: OnTimeout | Unchanged = UNCHANGED,
        keep_memory: bool | Unchanged = UNCHANGED,
        auto_resume: bool | Unchanged = UNCHANGED,
        idle_timeout_s: int | None | Unchanged = UNCHANGED,
        on_idle: OnIdle | Unchanged = UNCHANGED,
        pause_after_s: int | None | Unchanged = UNCHANGED,
    ) -> SandboxInfo:
        """Change what happens when its time is up and while it idles; arguments as in `create`, others stay."""
        asked = {
            "on_timeout": on_timeout,
            "keep_memory": keep_memory,
            "auto_resume": auto_resume,
            "idle_timeout_s": idle_timeout_s,
            "on_idle": on_idle,
            "pause_after_s": pause_after_s,
        }
        given = {name: value for name, value in asked.items() if not isinstance(value, Unchanged)}
        return self._update("/lifecycle", "PATCH", given)

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
        return [Metrics.from_json(item) for item in items(self._guest.json(call))]

    def logs(self, *, limit_bytes: int = 64 * 1024) -> Sequence[LogEntry]:
        """The last lines that its agent logged, oldest first; as many as `limit_bytes` (up to 1 MiB) hold."""
        params = {"limit_bytes": str(limit_bytes)}
        call = Call("GET", self._guest.own_path("/logs"), params=params, is_safe=True)
        return [LogEntry.from_json(item) for item in items(self._guest.json(call))]

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
        call = json_call(method, self._guest.own_path(path), body, is_safe=True)
        return SandboxInfo.from_json(self._guest.json(call))


def _create(http: Http, body: Mapping[str, object]) -> _Made:
    headers = {"idempotency-key": secrets.token_hex(16)}
    call = json_call("POST", "/v1/sandboxes", body, headers=headers, is_safe=True, read_timeout_s=SLOW_TIMEOUT_S)
    return [SandboxInfo.from_json(http.json(call))], []


def _finish_or_undo(http: Http, making: backend.Job[_Made]) -> _Made:
    try:
        making.start()
        return making.finish()
    except Exception:
        raise
    except BaseException:
        # Interrupted or cancelled: sandboxes may come up all the same, and nobody would know their ids.
        _undo(http, making)
        raise


def _undo(http: Http, making: backend.Job[_Made]) -> None:
    if making.withdraw():
        return
    try:
        made, _ = making.finish()
        for info in made:
            http.json(Call("DELETE", Guest(http, info.id).own_path(), is_safe=True))
    except AtollError:
        # Not made, or gone already; the interruption is what the caller is told of.
        return
