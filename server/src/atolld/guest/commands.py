"""Running one command in a sandbox and reading all it says, as the steps of a build do."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from urllib.parse import urlencode

from atolld.foundation.aio import cancel_and_wait, spawn, to_the_end
from atolld.foundation.errors import GuestUnreachable, InvalidArgument
from atolld.guest.http import GuestResponse, dial, exchange
from atolld.guest.stream import stream

log = logging.getLogger("atolld.guest")

STDIN_CHUNK_BYTES = 256 * 1024
KILL_S = 2.0
KILL_PAUSE_S = 0.1
# How often it is looked whether the command itself still runs, and how long nothing must have come until then.
LOOK_S = 1.0
QUIET_S = 2.0

# Told of `stdout` or `stderr`, and a piece of it.
OnOutput = Callable[[str, bytes], None]


async def run_command(
    address: str,
    token: str,
    argv: Sequence[str],
    *,
    user: str,
    cwd: str | None = None,
    envs: Mapping[str, str] | None = None,
    stdin: str | AsyncIterator[bytes] | None = None,
    on_output: OnOutput,
) -> int:
    """Run `argv` as `user` (name or number) in `cwd` (None: where the sandbox's commands start), and wait for its end.

    Its output is handed to `on_output` in pieces of at most 32 KiB, as fast as that takes them. Without `stdin` it
    reads nothing. Returns the exit code, -1 when a signal ended it. What it left in the background ends with it, two
    quiet seconds later.

    Raises InvalidArgument with the agent's words when there is no such user, directory or program; FailedPrecondition
    when the sandbox has no room for one more process; GuestUnreachable. When this is cancelled, or `on_output` raises,
    the command and its process group are killed.
    """
    if not argv or not argv[0]:
        raise InvalidArgument("the command is empty")
    tag = secrets.token_hex(16)
    process: dict[str, object] = {"cmd": argv[0], "args": list(argv[1:]), "envs": dict(envs or {})}
    if cwd is not None:
        process["cwd"] = cwd
    message = {"process": process, "tag": tag, "stdin": stdin is not None}
    agent = _Agent(address, token)
    helpers: list[asyncio.Task[None]] = []
    quiet = _Quiet()
    try:
        async with aclosing(stream(address, token, "process.Process/Start", message, user)) as messages:
            async for one in messages:
                event = one.get("event")
                if not isinstance(event, dict):
                    continue
                if isinstance(start := event.get("start"), dict) and not helpers:
                    helpers.append(spawn(agent.end_leftovers(tag, start.get("pid"), quiet), name="watch-command"))
                    if stdin is not None:
                        helpers.append(spawn(agent.feed(tag, stdin), name="feed-command"))
                if isinstance(data := event.get("data"), dict):
                    quiet.broken()
                    _hand_over(data, on_output)
                if isinstance(end := event.get("end"), dict):
                    return _exit_code(end)
        raise GuestUnreachable(f"the agent did not tell how {argv[0][:200]!r} ended")
    except InvalidArgument:
        # It was refused: there is nothing to kill.
        raise
    except BaseException:
        with suppress(GuestUnreachable):
            await to_the_end(agent.kill(tag), name="kill-command")
        raise
    finally:
        await cancel_and_wait(*helpers)


class _Quiet:
    """How long nothing has been said."""

    def __init__(self) -> None:
        self.broken()

    def broken(self) -> None:
        """Something is said now."""
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since


class _Agent:
    """The unary calls on a command that was started with a tag of our own."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._token = token

    async def feed(self, tag: str, stdin: str | AsyncIterator[bytes]) -> None:
        """Write it to its standard input and close that; a command that reads no more is no error."""
        async for data in _once(stdin.encode()) if isinstance(stdin, str) else stdin:
            for start in range(0, len(data), STDIN_CHUNK_BYTES):
                piece = base64.b64encode(data[start : start + STDIN_CHUNK_BYTES]).decode()
                message = {"process": {"tag": tag}, "input": {"stdin": piece}}
                if not await self._try("process.Process/SendInput", message):
                    return
        await self._try("process.Process/CloseStdin", {"process": {"tag": tag}})

    async def end_leftovers(self, tag: str, pid: object, quiet: _Quiet) -> None:
        """Once the command itself has ended and nothing more comes, end what of its group still holds its output.

        The agent tells of the end only when nobody does, so `server &` in a script would make it wait for ever.
        """
        if isinstance(pid, bool) or not isinstance(pid, int):
            raise GuestUnreachable("the agent's start event names no process id")
        while True:
            await asyncio.sleep(LOOK_S)
            if quiet.seconds < QUIET_S or await self._runs(pid):
                continue
            with suppress(GuestUnreachable):
                await self.kill(tag)

    async def _runs(self, pid: int) -> bool:
        """Whether there is such a process; True when the agent does not tell."""
        try:
            async with asyncio.timeout(KILL_S):
                reader, writer = await dial(self._address)
                try:
                    query = urlencode({"path": f"/proc/{pid}/stat", "username": "root"})
                    headers = {"x-access-token": self._token}
                    return (await exchange(reader, writer, "GET", f"/files?{query}", headers)).status != 404
                finally:
                    writer.close()
        except (TimeoutError, OSError, GuestUnreachable):
            return True

    async def kill(self, tag: str) -> None:
        """End it with its process group; it may not have been started yet. Raises GuestUnreachable."""
        message = {"process": {"tag": tag}, "signal": "SIGKILL"}
        try:
            async with asyncio.timeout(KILL_S):
                for _ in range(10):
                    answer = await self._call("atoll.guest.v1.Guest/Signal", message)
                    if answer.status != 404:
                        return
                    # The request to start it may still be on its way.
                    await asyncio.sleep(KILL_PAUSE_S)
        except (TimeoutError, OSError) as error:
            raise GuestUnreachable(f"the agent did not answer as a command was to be killed: {error}") from error

    async def _try(self, method: str, message: Mapping[str, object]) -> bool:
        try:
            return (await self._call(method, message)).status == 200
        except (GuestUnreachable, OSError) as error:
            # Whether the sandbox is there, its output tells.
            log.debug("a command's input could not be written: %s", error)
            return False

    async def _call(self, method: str, message: Mapping[str, object]) -> GuestResponse:
        # Not bounded in time: the agent answers when the command has room for its input.
        reader, writer = await dial(self._address)
        try:
            headers = {
                "x-access-token": self._token,
                "content-type": "application/json",
                "connect-protocol-version": "1",
            }
            return await exchange(reader, writer, "POST", f"/{method}", headers, json.dumps(message).encode())
        finally:
            writer.close()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _hand_over(data: Mapping[str, object], on_output: OnOutput) -> None:
    for name in ("stdout", "stderr"):
        value = data.get(name)
        if value is None:
            continue
        try:
            piece = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            piece = None
        if piece is None:
            raise GuestUnreachable(f"the agent's {name} is not base64 text")
        if piece:
            on_output(name, piece)


def _exit_code(end: Mapping[str, object]) -> int:
    # The JSON of protobuf leaves out zeros.
    code = end.get("exitCode", 0)
    if isinstance(code, bool) or not isinstance(code, int) or not -1 <= code <= 255:
        raise GuestUnreachable("the agent's end event has an exit code that is none")
    return code
