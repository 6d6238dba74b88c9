"""The gVisor bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.gvisor.bundle import bind_sources, bundle, environment


def test_bundle_is_json_and_holds_the_spec(spec: LaunchSpec) -> None:
    config = json.loads(json.dumps(bundle(spec)))
    assert config["process"]["args"] == ["/.atoll/agent"]
    assert config["process"]["user"] == {"uid": 0, "gid": 0}
    assert config["process"]["noNewPrivileges"] is False
    assert config["root"] == {"path": "/state/rootfs", "readonly": False}
    assert config["hostname"] == "box"
    assert config["linux"]["cgroupsPath"] == spec.cgroup
    assert {"type": "network", "path": "/run/netns/t-1"} in config["linux"]["namespaces"]
    assert "resources" not in config["linux"], "runsc would set limits that are the node's"


def test_agent_is_read_only(spec: LaunchSpec) -> None:
    mounts = {mount["destination"]: mount for mount in bundle(spec)["mounts"]}  # type: ignore[attr-defined]
    assert mounts["/.atoll/agent"]["source"] == "/cache/agent"
    assert "ro" in mounts["/.atoll/agent"]["options"]


def test_the_agent_takes_sudo_s_place_when_told(spec: LaunchSpec) -> None:
    plain, replaced = (json.loads(json.dumps(bundle(spec, agent_sudo=told))) for told in (False, True))
    assert "/usr/bin/sudo" not in [mount["destination"] for mount in plain["mounts"]]
    assert "ATOLL_SUDO=1" not in plain["process"]["env"]
    mount = replaced["mounts"][-1]
    assert (mount["destination"], mount["source"]) == ("/usr/bin/sudo", "/cache/agent")
    assert "ro" in mount["options"]
    assert "ATOLL_SUDO=1" in replaced["process"]["env"]
    assert bind_sources(plain) == bind_sources(replaced) == (Path("/cache/agent"),)


def test_no_file_system_in_memory_is_unbounded(spec: LaunchSpec) -> None:
    mounts = {mount["destination"]: mount for mount in bundle(spec)["mounts"]}  # type: ignore[attr-defined]
    assert f"size={128 * 1024 * 1024}" in mounts["/dev/shm"]["options"]
    assert "/tmp" not in mounts


def test_processes_are_bounded(spec: LaunchSpec) -> None:
    rlimits = {limit["type"]: limit["hard"] for limit in bundle(spec)["process"]["rlimits"]}  # type: ignore[index]
    assert rlimits == {"RLIMIT_NOFILE": 65536, "RLIMIT_NPROC": 100}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        ({"PATH": "/bin", "A": "1=2"}, ["PATH=/bin", "A=1=2"]),
    ],
)
def test_environment(env: dict[str, str], expected: list[str]) -> None:
    assert environment(env) == expected
