"""The probe, against commands that behave like runsc on one machine or another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.foundation.errors import RuntimeUnusable
from atolld.runtime.drivers.gvisor.binary import NEEDED_FLAGS, RunscBinary
from atolld.runtime.drivers.gvisor.probe import Probe, probe
from atolld.runtime.drivers.gvisor.settings import GvisorSettings

pytestmark = pytest.mark.real

FAULT = "say 'cannot run with network enabled in root network namespace'; exit 1"
COVERED = '[ -z "$(ls /proc/sys/net)" ]'
MACHINES = [
    ("all is well", "exit 0", Probe("systrap", False)),
    ("the network fault", f"{COVERED} && exit 0; {FAULT}", Probe("systrap", True)),
    ("no systrap", "[ $platform = ptrace ] && exit 0; say 'no seccomp'; exit 1", Probe("ptrace", False)),
    ("systrap hangs", "[ $platform = ptrace ] && exit 0; sleep 60", Probe("ptrace", False)),
    (
        "both",
        f"[ $platform = systrap ] && {{ say no; exit 1; }}; {COVERED} && exit 0; {FAULT}",
        Probe("ptrace", True),
    ),
]


def runsc(directory: Path, body: str) -> RunscBinary:
    path = directory / "runsc"
    path.write_text(
        "#!/bin/bash\n"
        "for argument; do case $argument in --log=*) log=${argument#*=};;\n"
        "--platform=*) platform=${argument#*=};; esac; done\n"
        f'say() {{ echo "$*" >>$log; }}\necho x >>{directory}/calls\n{body}\n'
    )
    path.chmod(0o755)
    return RunscBinary(path, "0.0~20240729.0", "20240729", NEEDED_FLAGS)


def settings(directory: Path, platform: str | None = None) -> GvisorSettings:
    (directory / "cache").mkdir(exist_ok=True)
    return GvisorSettings(directory / "root", directory / "cache", platform=platform, probe_timeout_s=1.0)


@pytest.mark.parametrize(("name", "body", "expected"), MACHINES, ids=[machine[0] for machine in MACHINES])
async def test_machines(name: str, body: str, expected: Probe, tmp_path: Path) -> None:
    binary = runsc(tmp_path, body)
    assert await probe(binary, settings(tmp_path)) == expected
    calls = (tmp_path / "calls").read_text()
    assert await probe(binary, settings(tmp_path)) == expected
    assert (tmp_path / "calls").read_text() == calls, "the result was not remembered"
    assert len(os.listdir(tmp_path / "cache")) == 1


async def test_nothing_works_and_is_not_remembered(tmp_path: Path) -> None:
    binary = runsc(tmp_path, "say no way with $platform; exit 1")
    for _ in range(2):
        with pytest.raises(RuntimeUnusable, match="systrap: no way with systrap; ptrace: no way with ptrace"):
            await probe(binary, settings(tmp_path))
    assert os.listdir(tmp_path / "cache") == []


async def test_the_fault_that_the_cure_does_not_cure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnusable, match="in root network namespace"):
        await probe(runsc(tmp_path, FAULT), settings(tmp_path))


async def test_a_forced_platform_is_probed_too(tmp_path: Path) -> None:
    binary = runsc(tmp_path, "[ $platform = kvm ] && sleep 60; exit 0")
    with pytest.raises(RuntimeUnusable, match="kvm: a sandbox did not end within 1 s"):
        await probe(binary, settings(tmp_path, "kvm"))


async def test_another_binary_is_probed_anew(tmp_path: Path) -> None:
    assert (await probe(runsc(tmp_path, "exit 0"), settings(tmp_path))).platform == "systrap"
    other = runsc(tmp_path, "[ $platform = ptrace ]")
    assert (await probe(other, settings(tmp_path))).platform == "ptrace"


async def test_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    binary = runsc(tmp_path, "exit 0")
    await probe(binary, settings(tmp_path))
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("{")
    assert (await probe(binary, settings(tmp_path))).platform == "systrap"
