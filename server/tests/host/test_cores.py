"""What the kernel is told of cores, by a file that takes the device's place: a number a write."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

import pytest

from atolld.foundation.clock import ManualClock
from atolld.host.cores import DEVICE, LONGEST_S, Cores

AFTER_S = 0.05
AWAKE, AS_USUAL = 0, -1


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "latency"
    path.touch()
    return path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cores(clock: ManualClock, device: Path) -> Cores:
    return Cores(clock, AFTER_S, device)


def told(device: Path) -> list[int]:
    data = device.read_bytes()
    return list(struct.unpack(f"={len(data) // 4}i", data))


async def test_they_sleep_again_after_each_work(cores: Cores, clock: ManualClock, device: Path) -> None:
    assert told(device) == []
    with cores.busy():
        assert told(device) == [AWAKE]
    await clock.advance(AFTER_S * 0.6)
    with cores.busy():
        pass
    await clock.advance(AFTER_S * 0.9)
    assert told(device) == [AWAKE]
    await clock.advance(AFTER_S)
    assert told(device) == [AWAKE, AS_USUAL]
    with cores.busy():
        assert told(device) == [AWAKE, AS_USUAL, AWAKE]
    await clock.advance(AFTER_S * 2)
    assert told(device) == [AWAKE, AS_USUAL, AWAKE, AS_USUAL]


async def test_they_stay_awake_through_work_and_for_a_moment_after_it(
    cores: Cores, clock: ManualClock, device: Path
) -> None:
    with cores.busy():
        await clock.advance(AFTER_S * 4)
        with cores.busy():
            await clock.advance(AFTER_S)
        await clock.advance(AFTER_S * 4)
    assert told(device) == [AWAKE]
    await clock.advance(AFTER_S * 2)
    assert told(device) == [AWAKE, AS_USUAL]


async def test_they_do_not_stay_awake_through_work_that_takes_long(
    cores: Cores, clock: ManualClock, device: Path
) -> None:
    with cores.busy():
        await clock.advance(LONGEST_S + AFTER_S)
        assert told(device) == [AWAKE, AS_USUAL]
        with cores.busy():
            assert told(device) == [AWAKE, AS_USUAL, AWAKE]
            await clock.advance(LONGEST_S + AFTER_S)
            assert told(device) == [AWAKE, AS_USUAL, AWAKE, AS_USUAL]
    await clock.advance(AFTER_S * 2)
    assert told(device) == [AWAKE, AS_USUAL, AWAKE, AS_USUAL]


async def test_work_that_fails_ends_too(cores: Cores, clock: ManualClock, device: Path) -> None:
    with pytest.raises(KeyError), cores.busy():
        raise KeyError
    await clock.advance(AFTER_S * 2)
    assert told(device) == [AWAKE, AS_USUAL]


async def test_never_means_that_the_device_is_not_touched(clock: ManualClock, device: Path) -> None:
    cores = Cores(clock, 0, device)
    with cores.busy():
        await clock.advance(1)
    cores.close()
    assert told(device) == []


async def test_without_the_device_nothing_is_lost(clock: ManualClock, tmp_path: Path) -> None:
    cores = Cores(clock, AFTER_S, tmp_path / "none")
    with cores.busy():
        await clock.advance(1)
    cores.close()
    assert os.listdir(tmp_path) == []


async def test_a_device_that_refuses_is_told_of_once(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    cores = Cores(clock, AFTER_S, Path("/dev/full"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with cores.busy():
                await clock.advance(2)
    assert [record.getMessage() for record in caplog.records] == [
        "cores are not kept awake: [Errno 28] No space left on device"
    ]


async def test_after_the_close_nothing_is_written(cores: Cores, clock: ManualClock, device: Path) -> None:
    with cores.busy():
        cores.close()
        await clock.advance(2)
    with cores.busy():
        cores.close()
    await clock.advance(2)
    assert told(device) == [AWAKE]


@pytest.mark.real
@pytest.mark.skipif(not os.access(DEVICE, os.W_OK), reason="this machine has no such device")
async def test_the_kernel_takes_what_is_written(clock: ManualClock) -> None:
    def asked() -> int:
        with DEVICE.open("rb") as device:
            return int(struct.unpack("=i", device.read(4))[0])

    usual = asked()
    cores = Cores(clock, AFTER_S)
    with cores.busy():
        assert asked() == 0
    await clock.advance(1)
    assert asked() == usual
    with cores.busy():
        cores.close()
        assert asked() == usual
    await clock.advance(1)
    assert asked() == usual
