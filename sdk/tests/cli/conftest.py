"""The command line, run in this process against the fake daemon."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll.cli.app import run_command_line


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    code: int
    out: str
    err: str


Atoll = Callable[..., Outcome]


@pytest.fixture
def atoll(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Atoll:
    monkeypatch.setenv("ATOLL_API_URL", daemon.url)
    monkeypatch.setenv("ATOLL_API_KEY", "key")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        source = tmp_path / "stdin"
        source.write_bytes(stdin)
        monkeypatch.setattr(sys, "argv", ["atoll", *arguments])
        with source.open("rb") as opened:
            monkeypatch.setattr(sys, "stdin", opened)
            with pytest.raises(SystemExit) as caught:
                run_command_line()
            for thread in threading.enumerate():
                if thread.name == "stdin":
                    thread.join(10)
        code = caught.value.code
        assert isinstance(code, int)
        return Outcome(code, *capfd.readouterr())

    return run
