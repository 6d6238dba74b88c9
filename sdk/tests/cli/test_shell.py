"""`atoll sandbox shell` on a real terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest
from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_daemon import FakeDaemon, Script

from atoll._config import Config
from atoll._sync.sandbox import Sandbox


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    yield outer, inner
    os.close(outer)
    os.close(inner)


def test_no_terminal_is_refused(atoll: Atoll) -> None:
    outcome = atoll("sandbox", "shell", "sbx1")
    assert (outcome.code, "exec ID" in outcome.err) == (125, True)


@pytest.mark.parametrize(("script_code", "signal_name"), [(5, None), (-1, "SIGTERM")])
def test_keys_sizes_and_the_terminal_afterwards(
    script_code: int, signal_name: str | None, terminal: tuple[int, int], daemon: FakeDaemon, config: Config
) -> None:
    outer, inner = terminal
    hold = threading.Event()
    daemon.scripts["prog"] = Script(output=[("pty", b"hello from the sandbox")], exit_code=5, hold=hold)
    sandbox = Sandbox.create(config=config)
    before = termios.tcgetattr(inner)
    environment = {**os.environ, "ATOLL_API_URL": daemon.url, "ATOLL_API_KEY": "key", "TERM": "xterm-test"}
    environment.pop("COLUMNS", None)
    environment.pop("LINES", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "atoll", "sandbox", "shell", sandbox.id, "--", "prog"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=environment,
        start_new_session=True,
    )
    shown = b""
    while b"sandbox" not in shown:
        shown += os.read(outer, 4096)
    start = daemon.processes[100].start
    assert start["pty"] == {"size": {"cols": 99, "rows": 33}}
    assert start["process"]["envs"]["TERM"] == "xterm-test"
    assert not termios.tcgetattr(inner)[3] & termios.ICANON
    os.write(outer, b"a\x03")
    daemon.typed.wait(10)
    assert bytes(daemon.processes[100].stdin)[:1] == b"a"
    if signal_name is None:
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        process.send_signal(28)
        assert daemon.resized.wait(10)
        assert daemon.processes[100].sizes == [{"cols": 120, "rows": 40}]
        hold.set()
        assert process.wait(10) == 5
    else:
        process.terminate()
        assert process.wait(10) == 143
        hold.set()
    assert termios.tcgetattr(inner) == before
