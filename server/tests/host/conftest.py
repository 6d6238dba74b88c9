"""Shared by the host tests: an instance of its own for each test, and proof that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from atolld.host import mounts
from atolld.host.instance import Instance


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance nobody else on the machine uses."""
    name = f"t{secrets.token_hex(3)}"
    return Instance.named(name, state_dir=tmp_path / "state", run_dir=tmp_path / "run")


def leftovers(instance: Instance) -> dict[str, list[str]]:
    """Everything on the machine that bears the instance's name or lies in its directories."""
    name = instance.name
    below = (instance.state_dir, instance.run_dir)
    loops = subprocess.run(["losetup", "-nO", "BACK-FILE"], capture_output=True, text=True, check=True).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {
        "namespaces": [entry for entry in _names("/run/netns") if entry.startswith(name)],
        "interfaces": [entry for entry in _names("/sys/class/net") if entry.startswith(name)],
        "mounts": [str(m.target) for m in mounts.read_mounts() if any(m.target.is_relative_to(d) for d in below)],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}")],
        "loop devices": [line for line in loops.splitlines() if any(line.startswith(str(d)) for d in below)],
        "tables": [line for line in tables.splitlines() if line.split()[-1] == name],
    }


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


@pytest.fixture
def clean(instance: Instance) -> Iterator[None]:
    """Fails the test when anything of its instance is left on the machine, or a file descriptor of this process."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    left = {kind: found for kind, found in leftovers(instance).items() if found}
    assert not left, f"left behind: {left}"
    # A new event loop may hold a few; a leak of one per operation is far above that.
    assert len(os.listdir("/proc/self/fd")) <= before + 6


class Process:
    """A subprocess that runs `sys.executable -c code` somewhere, ended at the end of the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.popen = process

    @property
    def pid(self) -> int:
        return self.popen.pid

    def line(self) -> str:
        """The next line it prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().rstrip("\n")

    def send(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def start_python() -> Iterator[Callable[..., Process]]:
    """`start_python(code, *prefix)`: run Python code behind an argv prefix, with pipes to talk to it."""
    started: list[Process] = []

    def start(code: str, *prefix: str) -> Process:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(Process(process))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds; fails after five seconds. For what the kernel does in its own time."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (the kernel sets no event)
                await asyncio.sleep(0.01)

    return wait
