"""The guest agent comes up as PID 1 under each driver, and ends at SIGTERM within its grace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.guest.client import GuestClient, GuestInit
from atolld.runtime.conformance import factories
from atolld.runtime.conformance.linux_lab import LinuxLab, Place, have_root, newest_layer
from atolld.runtime.driver import RuntimeDriver, TaskState

# Where `make agent` puts it; a checkout that found it in the cache has built none of its own.
AGENT = Path(os.environ.get("ATOLL_AGENT_BINARY", "/var/cache/atoll/bin/atoll-agent"))
HAVE_AGENT = AGENT.exists()


@pytest.mark.real
@pytest.mark.parametrize("factory", [factories.gvisor, factories.container])
async def test_agent_answers(factory: Callable[[Place], RuntimeDriver], tmp_path: Path) -> None:
    base = newest_layer()
    if not have_root() or base is None or not HAVE_AGENT:
        pytest.skip("needs root, mke2fs, the base template and a built agent")
    async with LinuxLab(tmp_path, factory, (base,)) as lab:
        driver, ground = lab.driver(), await lab.prepare()
        spec = replace(ground.spec, agent=AGENT)
        handle = await driver.start(await driver.create(spec))
        guest = GuestClient(ground.address, token="t" * 32)
        init = GuestInit("t" * 32, time.time(), spec.id, "base", spec.hostname, pids_max=spec.resources.pids_max)
        await guest.wait_ready(init, 10.0)
        told = await guest.info()
        assert told["pid"] == 1, told
        await driver.stop(handle, grace_s=5)
        assert (await driver.inspect(handle)).state is TaskState.GONE
        await driver.destroy(handle)
        assert lab.leftovers(ground) == []
