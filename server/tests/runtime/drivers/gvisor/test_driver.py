"""The parts of the gVisor driver that need no sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition, RuntimeUnusable
from atolld.host.cgroup_layout import CgroupLayout, CgroupMode
from atolld.host.cgroups import Cgroups
from atolld.host.instance import Instance
from atolld.runtime.driver import LaunchSpec, Power
from atolld.runtime.drivers.gvisor import GvisorDriver, GvisorSettings

OLD = """#!/bin/sh
case "$*" in
--version) echo runsc version 0.0~20221219.0 ;;
flags) for flag in root network platform file-access log; do echo "  -$flag value"; done ;;
"help "*) printf '  -image-path string\\n  -leave-running\\n' ;;
esac
"""


def driver_with(binary: Path, directory: Path) -> GvisorDriver:
    instance = Instance.named("t", state_dir=directory / "s", run_dir=directory / "r")
    cgroups = Cgroups(instance, CgroupLayout(CgroupMode.V2, {name: directory for name in ("cpu", "memory", "pids")}))
    return GvisorDriver(GvisorSettings(directory / "root", directory / "cache", binary=binary), cgroups)


@pytest.mark.real
async def test_an_old_binary_runs_but_cannot_save(tmp_path: Path, spec: LaunchSpec) -> None:
    binary = tmp_path / "runsc"
    binary.write_text(OLD)
    binary.chmod(0o755)
    driver = driver_with(binary, tmp_path)
    fingerprint = await driver.fingerprint()
    assert fingerprint.usable
    assert set(fingerprint.missing) == {Power.CHECKPOINT, Power.RESTORE, Power.PREPARED}
    handle = driver.handle_for(spec.id, tmp_path)
    for refused in (
        driver.suspend(handle),
        driver.checkpoint(handle, tmp_path, end_connections=False),
        driver.restore(spec, tmp_path),
    ):
        with pytest.raises(FailedPrecondition, match="2024-07 or newer"):
            await refused


@pytest.mark.parametrize(
    ("script", "reason"),
    [(None, "not installed"), ("echo runsc version release-20200101.0", "too old"), ("exit 1", "status 1")],
)
async def test_unusable_says_why(script: str | None, reason: str, tmp_path: Path, spec: LaunchSpec) -> None:
    binary = tmp_path / "runsc"
    if script is not None:
        binary.write_text(f"#!/bin/sh\n{script}\n")
        binary.chmod(0o755)
    driver = driver_with(binary, tmp_path)
    fingerprint = await driver.fingerprint()
    assert not fingerprint.usable
    assert reason in fingerprint.reason
    with pytest.raises(RuntimeUnusable, match=reason):
        await driver.create(spec)
