"""The runtimes' mount namespace: what is hidden in it and what shows up in it later."""

from __future__ import annotations

import os
import subprocess

import pytest

from atolld.host.instance import Instance
from atolld.host.layers import Layers
from atolld.host.mntns import RuntimeNamespace

pytestmark = pytest.mark.real


def inside(namespace: RuntimeNamespace, *command: str) -> list[str]:
    done = subprocess.run([*namespace.prefix, *command], capture_output=True, text=True, check=True)
    return done.stdout.split()


async def test_the_network_settings_are_hidden_and_later_mounts_are_seen(instance: Instance, clean: None) -> None:
    layers = Layers(instance)
    layers.prepare()
    namespace = RuntimeNamespace(instance)
    for _ in range(2):
        await namespace.prepare()
    assert inside(namespace, "ls", "/proc/sys/net") == []
    assert "mmap_min_addr" in inside(namespace, "ls", "/proc/sys/vm")
    assert "ipv4" in os.listdir("/proc/sys/net")
    layer = await layers.create("a", 64)
    assert inside(namespace, "ls", str(layer.mount)) == ["log", "lost+found", "upper", "work"]
    # Unmounting outside takes it away inside: a sandbox's disk is not held by the namespace.
    await layers.destroy(layer)
    assert inside(namespace, "ls", str(layers.directory)) == []
    for _ in range(2):
        namespace.remove()
    assert not namespace.path.exists()
    layers.remove_all()


async def test_a_program_that_fails_inside_is_told_by_its_code(instance: Instance, clean: None) -> None:
    namespace = RuntimeNamespace(instance)
    await namespace.prepare()
    with pytest.raises(subprocess.CalledProcessError, match="status 7"):
        inside(namespace, "sh", "-c", "exit 7")
    namespace.remove()
