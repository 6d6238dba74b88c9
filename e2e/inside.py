"""Starting and asking the programs of `e2e/programs` in a sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll import Sandbox

PROGRAMS = Path(__file__).parent / "programs"


def launch(sandbox: Sandbox, program: str, port: int, *arguments: str, timeout_s: float = 60) -> dict[str, Any]:
    """Start `program` in the sandbox, wait until its server answers, and return what it told."""
    path = f"/home/user/{program}.py"
    sandbox.files.write(path, (PROGRAMS / f"{program}.py").read_text())
    sandbox.start(["sh", "-c", 'exec python3 -u "$@" 2>"$1.err"', "sh", path, *arguments]).disconnect()
    deadline = time.monotonic() + timeout_s
    while True:
        answer = sandbox.request("GET", port)
        if answer.status_code == 200:
            return dict(answer.json())
        assert time.monotonic() < deadline, f"{program} did not answer within {timeout_s} s: {answer.text}"
        time.sleep(0.1)


def ask(sandbox: Sandbox, port: int, method: str = "GET", path: str = "/") -> dict[str, Any]:
    """What the program on `port` tells."""
    answer = sandbox.request(method, port, path)
    assert answer.status_code == 200, f"{answer.text} {complaints(sandbox)}"
    return dict(answer.json())


def complaints(sandbox: Sandbox) -> str:
    """What the programs wrote to their standard error."""
    return sandbox.run("tail -n 30 /home/user/*.err").stdout


@dataclass
class Keeper:
    """A number in the memory of a process in a sandbox (`programs/keeper.py`)."""

    PORT = 8100

    sandbox: Sandbox
    pid: int
    boot_id: str
    value: int = 0

    @classmethod
    def start(cls, sandbox: Sandbox) -> Keeper:
        told = launch(sandbox, "keeper", cls.PORT)
        return cls(sandbox, told["pid"], told["boot_id"])

    def set(self, value: int) -> None:
        """Change it."""
        self.value = value
        assert ask(self.sandbox, self.PORT, "PUT", f"/{value}")["value"] == value

    def check(self) -> dict[str, Any]:
        """It is the same process with the same number; wakes the sandbox when it has to. Returns what it told."""
        told = ask(self.sandbox, self.PORT)
        assert (told["value"], told["pid"], told["boot_id"]) == (self.value, self.pid, self.boot_id)
        return told

    def is_there(self) -> bool:
        """Whether it runs at all."""
        return self.sandbox.request("GET", self.PORT).status_code == 200


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Look every 50 ms. Raises AssertionError when it is not so in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
