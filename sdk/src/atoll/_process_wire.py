"""The agent's process messages: built from arguments and read into events. Pure.

Reading is defensive: everything that comes from an agent was said inside a sandbox.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import shlex
from collections.abc import Mapping, Sequence

from atoll._errors import Internal, InvalidArgument
from atoll._events import Event, Exit, PtyOutput, Stderr, Stdout

Command = str | Sequence[str]

# A stdin message is JSON with base64 inside: big enough to be few, small enough to keep memory flat.
STDIN_CHUNK_BYTES = 256 * 1024

# A login shell if there is bash, so that a terminal feels like one; any image has sh.
DEFAULT_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -il; exec sh -il")


def start_request(
    cmd: Command,
    *,
    cwd: str | None,
    envs: Mapping[str, str] | None,
    tag: str,
    stdin: bool,
    pty: tuple[int, int] | None = None,
) -> dict[str, object]:
    """The first message of `process.Process/Start`. `pty`: columns and rows.

    A string is given to `/bin/sh -c`; a sequence is executed as it is. Raises InvalidArgument when it is empty.
    """
    program, args = split_command(cmd)
    process: dict[str, object] = {"cmd": program, "args": args, "envs": dict(envs or {})}
    if cwd is not None:
        process["cwd"] = cwd
    message: dict[str, object] = {"process": process, "tag": tag, "stdin": stdin}
    if pty is not None:
        message["pty"] = pty_size(*pty)
    return message


def split_command(cmd: Command) -> tuple[str, list[str]]:
    """Program and arguments. Raises InvalidArgument when there is no program."""
    if isinstance(cmd, str):
        if not cmd.strip():
            raise InvalidArgument("the command is empty")
        return "/bin/sh", ["-c", cmd]
    words = list(cmd)
    if not words or not all(isinstance(word, str) for word in words) or not words[0]:
        raise InvalidArgument("a command given as a list needs a program's name first, and strings only")
    return words[0], words[1:]


def display(cmd: Command) -> str:
    """The command as a person would type it, shortened."""
    text = cmd if isinstance(cmd, str) else shlex.join(cmd)
    return text if len(text) <= 200 else text[:199] + "…"


def pty_size(cols: int, rows: int) -> dict[str, object]:
    """A terminal's size. Raises InvalidArgument outside 1 to 65535."""
    for name, value in (("cols", cols), ("rows", rows)):
        if not 1 <= value <= 65535:
            raise InvalidArgument(f"{name} is {value}; it must be between 1 and 65535")
    return {"size": {"cols": cols, "rows": rows}}


def input_message(pid: int, data: bytes, *, pty: bool) -> dict[str, object]:
    """The message of `process.Process/SendInput`."""
    return {"process": {"pid": pid}, "input": {"pty" if pty else "stdin": base64.b64encode(data).decode()}}


class EventReader:
    """Turns a process stream's messages into events, and counts the output bytes for taking it up again.

    `received_bytes`: all output so far, standard output, standard error and terminal together, gaps included: the
    position from which a replay must begin. `pid`: None until the stream's start was seen.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.received_bytes = 0
        self._stdout = codecs.getincrementaldecoder("utf-8")("replace")
        self._stderr = codecs.getincrementaldecoder("utf-8")("replace")
        self._pty = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, message: Mapping[str, object]) -> list[Event]:
        """The events of one message: none for a start or a keepalive. Raises Internal on nonsense."""
        event = message.get("event")
        if not isinstance(event, dict):
            return []
        data = event.get("data")
        if isinstance(data, dict):
            return self._output(data)
        start = event.get("start")
        if isinstance(start, dict):
            self._start(start)
            return []
        end = event.get("end")
        if isinstance(end, dict):
            return [*self._rest(), _exit(end)]
        return []

    def _start(self, start: Mapping[str, object]) -> None:
        pid = start.get("pid")
        if isinstance(pid, bool) or not isinstance(pid, int):
            raise Internal("the agent's start event names no process id")
        self.pid = pid

    def _output(self, data: Mapping[str, object]) -> list[Event]:
        events: list[Event] = []
        if (chunk := _bytes(data, "stdout")) is not None:
            events.append(Stdout(chunk, self._stdout.decode(chunk)))
            self.received_bytes += len(chunk)
        if (chunk := _bytes(data, "stderr")) is not None:
            events.append(Stderr(chunk, self._stderr.decode(chunk)))
            self.received_bytes += len(chunk)
        if (chunk := _bytes(data, "pty")) is not None:
            events.append(PtyOutput(chunk, self._pty.decode(chunk)))
            self.received_bytes += len(chunk)
        return events

    def _rest(self) -> list[Event]:
        # What is left is the beginning of a character that never was finished.
        events: list[Event] = []
        if text := self._stdout.decode(b"", True):
            events.append(Stdout(b"", text))
        if text := self._stderr.decode(b"", True):
            events.append(Stderr(b"", text))
        if text := self._pty.decode(b"", True):
            events.append(PtyOutput(b"", text))
        return events


def _bytes(data: Mapping[str, object], name: str) -> bytes | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Internal(f"the agent's {name} is not base64 text")
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError) as error:
        raise Internal(f"the agent's {name} is not base64 text") from error


def _exit(end: Mapping[str, object]) -> Exit:
    # protobuf's JSON leaves out zeros.
    code = end.get("exitCode", 0)
    if isinstance(code, bool) or not isinstance(code, int):
        raise Internal("the agent's end event has an exit code that is no number")
    status = end.get("status")
    words = status if isinstance(status, str) and status else f"exit status {code}"
    error = end.get("error")
    if code == 0:
        return Exit(0, words, None)
    return Exit(code, words, error if isinstance(error, str) and error else words)
