"""The container bundle."""

from __future__ import annotations

import json

import pytest

from atolld.runtime.driver import LaunchSpec
from atolld.runtime.drivers.container.bundle import bundle, device_rules

TOO_MUCH = {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_DAC_READ_SEARCH"}


def test_bundle_is_json_and_holds_the_spec(spec: LaunchSpec) -> None:
    config = json.loads(json.dumps(bundle(spec, "x86_64", 1000)))
    assert config["process"]["args"] == ["/.atoll/agent"]
    assert config["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 1000, "soft": 1000}]
    assert config["linux"]["cgroupsPath"] == spec.cgroup
    assert set(config["linux"]["resources"]) == {"devices"}, "limits are the node's"
    assert {"type": "network", "path": "/run/netns/t-1"} in config["linux"]["namespaces"]
    assert {"mount", "pid", "ipc", "uts", "cgroup"} < {entry["type"] for entry in config["linux"]["namespaces"]}


@pytest.mark.parametrize("kind", ["bounding", "effective", "permitted"])
def test_no_capability_that_reaches_the_host(kind: str, spec: LaunchSpec) -> None:
    config = json.loads(json.dumps(bundle(spec, "x86_64")))
    assert not TOO_MUCH & set(config["process"]["capabilities"][kind])
    assert "inheritable" not in config["process"]["capabilities"]


def test_kernel_file_systems_are_closed(spec: LaunchSpec) -> None:
    config = json.loads(json.dumps(bundle(spec, "x86_64")))
    mounts = {mount["destination"]: mount["options"] for mount in config["mounts"]}
    for destination in ("/sys", "/sys/fs/cgroup", "/.atoll/agent"):
        assert "ro" in mounts[destination]
    assert {"/proc/kcore", "/sys/firmware"} <= set(config["linux"]["maskedPaths"])
    assert "/proc/sys" in config["linux"]["readonlyPaths"]


def test_devices_start_from_nothing() -> None:
    first, *rest = device_rules()
    assert first == {"allow": False, "access": "rwm"}
    opened = [rule for rule in rest if rule["access"] != "m"]
    assert {rule["type"] for rule in opened} == {"c"}
    assert all("major" in rule for rule in opened)
