"""A command's streams joined to this program's own: raw bytes, both ways, and the exit code."""

from __future__ import annotations

import os
import signal
import sys

import click

from atoll._errors import AtollError, FailedPrecondition, NotFound
from atoll._events import Exit, Gap, PtyOutput, Stderr, Stdout
from atoll._sync.process import Process
from atoll.cli.context import start_thread
from atoll.cli.output import note

READ_BYTES = 64 * 1024

# The words with which Go's and our agent's status name signals, where they differ from the signal's name.
_SIGNAL_WORDS = {
    "hangup": signal.SIGHUP,
    "interrupt": signal.SIGINT,
    "quit": signal.SIGQUIT,
    "illegal instruction": signal.SIGILL,
    "trace/breakpoint trap": signal.SIGTRAP,
    "aborted": signal.SIGABRT,
    "bus error": signal.SIGBUS,
    "floating point exception": signal.SIGFPE,
    "killed": signal.SIGKILL,
    "user defined signal 1": signal.SIGUSR1,
    "segmentation fault": signal.SIGSEGV,
    "user defined signal 2": signal.SIGUSR2,
    "broken pipe": signal.SIGPIPE,
    "alarm clock": signal.SIGALRM,
    "terminated": signal.SIGTERM,
}


def pump(process: Process, *, forward_stdin: bool) -> int:
    """Copy everything until the command ends; returns the exit code for this program.

    A command that a signal ended gives 128 plus the signal's number, as in a shell. Raises as iterating over the
    process does.
    """
    if forward_stdin:
        start_thread("stdin", lambda: send_stdin(process))
    for event in process:
        if isinstance(event, (Stdout, PtyOutput)):
            _write(sys.stdout.fileno(), event.data)
        elif isinstance(event, Stderr):
            _write(sys.stderr.fileno(), event.data)
        elif isinstance(event, Gap):
            lost = "an unknown number of" if event.lost_bytes is None else str(event.lost_bytes)
            note(f"atoll: the connection was lost for a while, and with it {lost} bytes of output")
    assert process.exit is not None
    return exit_code(process.exit)


def exit_code(end: Exit) -> int:
    """The code with which a shell would tell of this end."""
    if end.exit_code >= 0:
        return end.exit_code & 0xFF
    # The agent writes `signal: killed`, and `signal: signal 40` for one that has no name.
    words = end.status.partition("signal:")[2].strip().removesuffix(" (core dumped)").removeprefix("signal ")
    number = _SIGNAL_WORDS.get(words.lower())
    if number is None and words.upper() in signal.Signals.__members__:
        number = signal.Signals[words.upper()]
    if number is None and words.isdecimal():
        return 128 + int(words)
    return 128 + int(number or signal.SIGKILL)


def send_stdin(process: Process) -> None:
    """Send this program's standard input to its end; one that is closed or unreadable is at its end."""
    try:
        while data := _read_stdin():
            process.send_stdin(data)
        process.close_stdin()
    except (NotFound, FailedPrecondition):
        # The command ended, or closed its input, before it had read everything.
        return
    except AtollError as error:
        if process.exit is not None:
            # The command ended and its sandbox with it, while the last of the input was on its way.
            return
        click.echo(f"atoll: standard input could not be sent: {error.message}", err=True)


def _read_stdin() -> bytes:
    # With `<&-` Python has no sys.stdin at all.
    if sys.stdin is None:
        return b""
    try:
        return os.read(sys.stdin.fileno(), READ_BYTES)
    except OSError as error:
        note(f"atoll: standard input cannot be read: {error.strerror}")
        return b""


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
