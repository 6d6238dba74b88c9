from __future__ import annotations

from typing import cast

import pytest

from atoll import Exit, GuestUnreachable, Process
from atoll.cli import pump


class Ended:
    """A process whose sandbox is gone; `exit` says whether its end was seen."""

    def __init__(self, exit: Exit | None) -> None:
        self.exit = exit

    def send_stdin(self, data: bytes) -> None:
        raise GuestUnreachable("the sandbox ended while the request was in flight")


@pytest.mark.parametrize(
    ("exit", "told"),
    [(Exit(7, "exit status 7", "exit status 7"), ""), (None, "could not be sent: the sandbox ended")],
)
def test_input_that_comes_too_late_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], exit: Exit | None, told: str
) -> None:
    monkeypatch.setattr(pump, "_read_stdin", lambda: b"x")
    pump.send_stdin(cast(Process, Ended(exit)))
    said = capsys.readouterr().err
    assert (told in said) and bool(said) == bool(told)
