"""Running one command in a sandbox and reading all it says, as the steps of a build do."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress

from atolld.foundation.aio import cancel_and_wait, spawn, to_the_end
from atolld.foundation.errors import GuestUnreachable, InvalidArgument
from atolld.guest.http import GuestResponse, dial, exchange
from atolld.guest.stream import stream

log = logging.getLogger("atolld.guest")

STDIN_CHUNK_BYTES = 256 * 1024
KILL_S = 2.0
KILL_PAUSE_S = 0.1

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
    stdin: str | None = None,
    on_output: OnOutput,
) -> int:
    """Run `argv` as `user` (name or number) in `cwd` (None: where the sandbox's commands start), and wait for its end.

    Its output is handed to `on_output` in pieces of at most 32 KiB, as fast as that takes them. Without `stdin` it
    reads nothing. Returns the exit code, -1 when a signal ended it. It has ended when nobody holds its output any more.

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
    feeder: asyncio.Task[None] | None = None
    try:
        async with aclosing(stream(address, token, "process.Process/Start", message, user)) as messages:
            async for one in messages:
                event = one.get("event")
                if not isinstance(event, dict):
                    continue
                if "start" in event and stdin is not None and feeder is None:
                    feeder = spawn(agent.feed(tag, stdin.encode()), name="feed-command")
                if isinstance(data := event.get("data"), dict):
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
        await cancel_and_wait(feeder)


class _Agent:
    """The unary calls on a command that was started with a tag of our own."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._token = token

    async def feed(self, tag: str, data: bytes) -> None:
        """Write `data` to its standard input and close that; a command that reads no more is no error."""
        for start in range(0, len(data), STDIN_CHUNK_BYTES):
            piece = base64.b64encode(data[start : start + STDIN_CHUNK_BYTES]).decode()
            message = {"process": {"tag": tag}, "input": {"stdin": piece}}
            if not await self._try("process.Process/SendInput", message):
                return
        await self._try("process.Process/CloseStdin", {"process": {"tag": tag}})

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
