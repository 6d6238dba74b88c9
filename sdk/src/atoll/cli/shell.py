"""`atoll sandbox shell`: a real terminal in a sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from atoll._errors import AtollError, NotFound
from atoll._sync.commands import Pty
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import Settings, start_thread
from atoll.cli.options import command_options
from atoll.cli.pump import READ_BYTES, exit_code, pump

EPILOG = """\b
Keys go to the sandbox as they are, Ctrl-C included; leave with `exit` or Ctrl-D.

\b
Examples:
  atoll sandbox shell ID
  atoll sandbox shell ID --user root
  atoll sandbox shell ID -- python3
"""


@click.command(epilog=EPILOG)
@click.argument("id")
@command_options
@click.argument("command", nargs=-1, metavar="[-- CMD...]")
@click.pass_obj
def shell(settings: Settings, /, id: str, command: tuple[str, ...], **options: Any) -> int:
    """A terminal in the sandbox ID, with a login shell or CMD in it. Exits with its code."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise click.UsageError("this is no terminal; use: atoll sandbox exec ID -- CMD")
    sandbox = Sandbox.connect(id, config=settings.config())
    cols, rows = _size()
    envs = {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}
    pty = sandbox.pty.create(cols, rows, cmd=command or None, cwd=options["cwd"], user=options["user"], envs=envs)
    with raw_terminal(sys.stdin.fileno()), _following_size(pty):
        start_thread("keys", lambda: _send_keys(pty))
        code = pump(pty, forward_stdin=False)
    assert pty.exit is not None
    return exit_code(pty.exit) if code else 0


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Every key is passed on as it is; the terminal is as before afterwards, whatever happened."""
    before = termios.tcgetattr(descriptor)

    def restore() -> None:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def on_signal(number: int, frame: FrameType | None) -> None:
        restore()
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        # Draining, not flushing: what was typed ahead is kept.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        restore()
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _following_size(pty: Pty) -> Iterator[None]:
    # The handler only wakes a thread: a request from inside a signal handler would run in the middle of another one.
    reading, writing = os.pipe()

    def on_change(number: int, frame: FrameType | None) -> None:
        os.write(writing, b".")

    def follow() -> None:
        while os.read(reading, 64):
            try:
                pty.resize(*_size())
            except NotFound:
                return
            except AtollError:
                # The next change, or the next key, will show whether the sandbox is still there.
                continue

    start_thread("size", follow)
    previous = signal.signal(signal.SIGWINCH, on_change)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)
        os.close(writing)


def _send_keys(pty: Pty) -> None:
    while data := os.read(sys.stdin.fileno(), READ_BYTES):
        try:
            pty.send(data)
        except AtollError:
            # The main thread reads the same terminal's output and reports what happened to it.
            return


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return max(1, size.columns), max(1, size.lines)
