"""One kernel: a process that runs code, and how it is started, interrupted and watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from atoll_interpreter.aio import spawn
from atoll_interpreter.errors import Invalid, KernelFailed
from atoll_interpreter.line import METADATA, VARIABLE, Line
from atoll_interpreter.settings import Settings

START_TIMEOUT_S = 60
_PATH = "/home/user/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What is set in the server's own environment and means nothing to code.
_OWN = ("ATOLL_INTERPRETER_", "PYTHON", "VIRTUAL_ENV")


class _Manager(AsyncKernelManager):
    """A kernel manager whose kernel runs as another user and dies with the server."""

    run_as: pwd.struct_passwd | None = None

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        command: list[str] = super().format_kernel_cmd(extra_arguments)
        prefix = ["setpriv", "--pdeathsig", "KILL"]
        if self.run_as is not None:
            user = self.run_as
            prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
        return [*prefix, "--", *command]

    def write_connection_file(self, **options: Any) -> None:
        super().write_connection_file(**options)
        if self.run_as is not None:
            for path in (self.connection_file, os.path.dirname(self.connection_file)):
                os.chown(path, self.run_as.pw_uid, self.run_as.pw_gid)


class Kernel:
    """The kernel of one context. It can be started again after it ended; `generation` counts its processes.

    `on_death(generation)` is called in the event loop when a process ends that was not asked to. `on_message(message)`:
    for each that comes over the line, from kernels that have one; those of the others are read from `client`.
    """

    def __init__(
        self,
        name: str,
        cwd: str,
        settings: Settings,
        context: zmq.asyncio.Context,
        on_death: Callable[[int], None],
        on_message: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._name = name
        self._cwd = cwd
        self._settings = settings
        self._zmq = context
        self._on_death = on_death
        self._on_message = on_message
        self._manager: _Manager | None = None
        self._client: AsyncKernelClient | None = None
        self._line: Line | None = None
        self._expected_end = 0
        self._starting: asyncio.Future[None] | None = None
        self.generation = 0

    @property
    def client(self) -> AsyncKernelClient:
        """How the running kernel is talked to."""
        if self._client is None:
            raise KernelFailed(f"the kernel {self._name} does not run")
        return self._client

    @property
    def line(self) -> Line | None:
        """Over which it says all that it says; None: it is read from `client`."""
        return self._line

    @property
    def alive(self) -> bool:
        """Whether a process is there that nobody has seen ending."""
        return self._client is not None

    async def start(self, envs: Mapping[str, str], *, ahead: bool = False) -> None:
        """Start it and wait until it answers. `envs`: the sandbox's own variables. `ahead`: let it load what code is
        likely to use, which takes it seconds.

        Raises Invalid (no such language, or no such directory), KernelFailed.
        """
        await self.stop()
        manager = self._make_manager()
        self.generation += 1
        self._manager = manager
        try:
            environ = self._environment(envs) | ({"ATOLL_KERNEL_AHEAD": "1"} if ahead else {})
            await self._launch(manager, environ)
            self._watch(self.generation)
            client = manager.client(context=self._zmq)
            client.start_channels(stdin=False, hb=False)
            self._client = client
            await self._until_ready(client)
            if self._line is not None:
                # Nothing is read from its other sockets any more, so nothing may come over them.
                client.stop_channels()
        except (OSError, RuntimeError, TimeoutError) as error:
            await self.stop()
            raise KernelFailed(f"the kernel {self._name} did not start: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def _launch(self, manager: _Manager, environ: Mapping[str, str]) -> None:
        spec = manager.kernel_spec
        if spec is None or not spec.metadata.get(METADATA):
            await manager.start_kernel(cwd=self._cwd, env=dict(environ))
            return
        ours, theirs = socket.socketpair()
        try:
            self._line = await Line.open(ours, self._on_message)
            told = {**environ, VARIABLE: str(theirs.fileno())}
            await manager.start_kernel(cwd=self._cwd, env=told, pass_fds=(theirs.fileno(),))
        finally:
            theirs.close()

    async def _until_ready(self, client: AsyncKernelClient) -> None:
        """Raises RuntimeError when the process ends before it answers."""
        ended = self._starting = asyncio.get_running_loop().create_future()
        answering = spawn(_wait_ready(client), name=f"ready-{self._name}")
        try:
            await asyncio.wait((ended, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise RuntimeError("its process ended")
            answering.result()
        finally:
            self._starting = None
            answering.cancel()

    def ask(self, code: str, *, silent: bool, variables: Mapping[str, object] | None) -> str:
        """Ask it to run `code`; what it says about that names the id that this returns. `variables`: for kernels of our
        own, which set them around the code. Raises KernelFailed."""
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        client = self.client
        if self._line is not None:
            return self._line.ask(content, {"atoll": variables} if variables else {})
        message = client.session.msg("execute_request", content, metadata={"atoll": variables} if variables else {})
        client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    async def stop(self) -> None:
        """End the process, whatever it does."""
        self._expected_end = self.generation
        client, manager = self._client, self._manager
        self._client = self._manager = None
        self._close_line()
        if client is not None:
            client.stop_channels()
        if manager is not None:
            with contextlib.suppress(Exception):
                await manager.shutdown_kernel(now=True)
            shutil.rmtree(os.path.dirname(manager.connection_file), ignore_errors=True)

    async def interrupt(self) -> None:
        """As Ctrl-C does."""
        if self._manager is not None:
            self.signal(signal.SIGCONT)
            with contextlib.suppress(Exception):
                await self._manager.interrupt_kernel()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing when it has ended."""
        process = self._process()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def _process(self) -> Any:
        provisioner = self._manager.provisioner if self._manager is not None else None
        return getattr(provisioner, "process", None)

    def _make_manager(self) -> _Manager:
        specs = KernelSpecManager(kernel_dirs=list(self._settings.kernel_dirs), ensure_native_kernel=False)
        found = specs.find_kernel_specs()
        if self._name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise Invalid(f"there is no kernel for {self._name!r} in this sandbox (there are: {known})")
        if not os.path.isdir(self._cwd):
            raise Invalid(f"the working directory {self._cwd!r} does not exist")
        run_as = pwd.getpwnam(self._settings.user) if self._settings.user and os.geteuid() == 0 else None
        # The kernel makes its sockets there. Sockets in files, not ports: code finds all ports free, and nothing of the
        # kernel's is reached from outside.
        home = self._settings.run_dir / f"kernel-{os.urandom(6).hex()}"
        home.mkdir(mode=0o700, parents=True)
        manager = _Manager(kernel_spec_manager=specs, context=self._zmq)
        # Not by its name: Jupyter takes `python` for the kernel of the Python that it runs in itself.
        manager._kernel_spec = KernelSpec.from_resource_dir(found[self._name])
        manager.connection_file = str(home / "kernel.json")
        manager.transport = "ipc"
        manager.ip = str(home / "socket")
        manager.run_as = run_as
        # Code may ask for its own end and restart; that is for the context to do.
        manager.shutdown_wait_time = 1.0
        return manager

    def _environment(self, envs: Mapping[str, str]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        user = self._settings.user
        if user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            own |= {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell or "/bin/sh"}
            own["PATH"] = _PATH
        own.setdefault("LANG", "C.UTF-8")
        own["TERM"] = "xterm-256color"
        return own | dict(envs)

    def _watch(self, generation: int) -> None:
        process = self._process()
        assert process is not None
        loop = asyncio.get_running_loop()

        # A thread that sleeps until the process ends costs nothing; asking again and again would wake the sandbox.
        def wait() -> None:
            process.wait()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ended, generation)

        threading.Thread(target=wait, name=f"kernel-{self._name}-{generation}", daemon=True).start()

    def _ended(self, generation: int) -> None:
        if generation != self.generation or generation == self._expected_end:
            return
        if self._starting is not None:
            if not self._starting.done():
                self._starting.set_result(None)
        else:
            client, self._client = self._client, None
            self._close_line()
            if client is not None:
                client.stop_channels()
            self._on_death(generation)

    def _close_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()


async def _wait_ready(client: AsyncKernelClient) -> None:
    # jupyter_client's own wait asks for the heartbeat and polls; an answer to kernel_info says all there is to know.
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            asked = client.kernel_info()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while (await client.get_shell_msg())["parent_header"].get("msg_id") != asked:
                        pass
                    break
        # Its answer goes over one socket and its output over another: until the second is connected output is lost.
        while True:
            asked = client.kernel_info()
            await client.get_shell_msg()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    while (await client.get_iopub_msg())["parent_header"].get("msg_id") != asked:
                        pass
                    return


def remove_stale(run_dir: Path) -> None:
    """Remove sockets that a server left which was killed."""
    for path in run_dir.glob("kernel-*"):
        shutil.rmtree(path, ignore_errors=True)
