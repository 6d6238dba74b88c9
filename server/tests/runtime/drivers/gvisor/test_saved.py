"""What is kept beside a saved memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Internal
from atolld.foundation.ids import SandboxId
from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.gvisor.bundle import bundle
from atolld.runtime.drivers.gvisor.saved import FILE, SavedLaunch


@pytest.mark.parametrize("agent_sudo", [False, True])
def test_a_guest_is_restored_with_the_bundle_it_had_in_new_places(
    agent_sudo: bool, spec: LaunchSpec, tmp_path: Path
) -> None:
    old = json.loads(json.dumps(bundle(spec, agent_sudo=agent_sudo)))
    SavedLaunch.of(old, spec.resources).write(tmp_path)
    elsewhere = replace(
        spec,
        id=SandboxId("i0123456789abcdefghj"),
        rootfs=Path("/other/rootfs"),
        netns=Path("/run/netns/t-2"),
        agent=Path("/cache/agent"),
        cgroup="/t/i0123456789abcdefghj",
        hostname="other",
        env={"B": "2"},
        resources=Resources(memory_mib=1024),
    )
    new = json.loads(json.dumps(SavedLaunch.read(tmp_path).bundle(elsewhere)))
    assert new["root"]["path"] == "/other/rootfs"
    assert new["linux"]["cgroupsPath"] == "/t/i0123456789abcdefghj"
    assert {"type": "network", "path": "/run/netns/t-2"} in new["linux"]["namespaces"]
    for key in ("process", "mounts", "hostname"):
        assert new[key] == old[key], key
    # What was restored can be saved again.
    assert SavedLaunch.of(new, spec.resources) == SavedLaunch.of(old, spec.resources)


GOOD = {"format": 1, "hostname": "h", "env": {"A": "1"}, "agent_sudo": False, "memory_mib": 256, "pids_max": 100}


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "[]",
        json.dumps(GOOD)[:-9],
        json.dumps(GOOD | {"format": 2}),
        json.dumps(GOOD | {"hostname": 5}),
        json.dumps(GOOD | {"env": {"A": 1}}),
        json.dumps(GOOD | {"env": 7}),
        json.dumps(GOOD | {"agent_sudo": "yes"}),
        json.dumps(GOOD | {"memory_mib": "much"}),
        json.dumps(GOOD | {"mounts": ["/"]}),
    ],
)
def test_what_is_damaged_is_refused(stored: str | None, tmp_path: Path) -> None:
    if stored is not None:
        (tmp_path / FILE).write_text(stored)
    with pytest.raises(Internal, match=r"launch\.json cannot be read"):
        SavedLaunch.read(tmp_path)
