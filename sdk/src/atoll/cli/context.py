"""What all commands share: the settings, exit codes, interruption by signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import click

from atoll._config import Config

FAILED = 1
TIMED_OUT = 124
OWN_FAILURE = 125
NOT_FOUND = 127

F = TypeVar("F", bound=Callable[..., Any])


class Interrupted(BaseException):
    """A signal asked this program to end. Not an Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@dataclass
class Settings:
    """The root's options. `own_failure`: the exit code for failures of ours, which differs where a command's counts."""

    api_url: str | None = None
    own_failure: int = FAILED

    def config(self) -> Config:
        """The daemon to talk to. Raises InvalidArgument."""
        return Config.load(api_url=self.api_url)


def json_option(function: F) -> F:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


@contextmanager
def interruptible() -> Iterator[Deferral]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread; `hold` puts that off."""
    deferral = Deferral()
    previous = {number: signal.signal(number, deferral.on_signal) for number in _SIGNALS}
    try:
        yield deferral
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Deferral:
    """Lets a step end before an interruption counts: between asking for a sandbox and knowing its id, nobody else
    could remove it."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: int | None = None
        self._handler: Callable[[int], None] = _interrupt

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Put one signal off until the end of this block; a second one is not put off."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raises Interrupted if a signal was put off."""
        if self._waiting is not None:
            raise Interrupted(self._waiting)

    @contextmanager
    def handled_by(self, handler: Callable[[int], None]) -> Iterator[None]:
        """Within this block signals, one that was put off included, go to `handler`; it runs in the main thread."""
        self._handler = handler
        try:
            if self._waiting is not None:
                handler(self._waiting)
            yield
        finally:
            self._handler = _interrupt

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self._held and self._waiting is None:
            self._waiting = number
        elif self._held:
            _interrupt(number)
        else:
            self._handler(number)


def _interrupt(number: int) -> None:
    raise Interrupted(number)


def start_thread(name: str, function: Callable[[], None]) -> None:
    """Run beside the main thread; the process ends without waiting for it."""
    threading.Thread(target=function, name=name, daemon=True).start()
