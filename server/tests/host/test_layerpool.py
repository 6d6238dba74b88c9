"""Prepared layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from atolld.foundation.errors import AlreadyExists
from atolld.host.instance import Instance
from atolld.host.layerpool import LayerPool
from atolld.host.layers import Layers


@pytest.mark.real
async def test_prepared_layers_are_renamed_refilled_and_removed(
    instance: Instance, clean: None, eventually: Callable[..., Any]
) -> None:
    layers = Layers(instance)
    pool = LayerPool(layers, disk_mib=64, ready_target=2)
    await pool.start(keep=[])
    await eventually(lambda: pool.ready == 2)
    one = await pool.acquire("one", 64)
    assert one.upper.is_dir()
    (one.upper / "a").write_text("x")
    other_size = await pool.acquire("two", 128)
    assert layers.usage(other_size).limit_bytes > 100 << 20
    with pytest.raises(AlreadyExists):
        await pool.acquire("one", 64)
    await eventually(lambda: pool.ready == 2)
    await pool.close()
    assert [layer.id for layer in layers.list_owned()] == ["one", "two"]
    layers.remove_all()


@pytest.mark.real
async def test_a_new_start_keeps_what_it_is_told_and_removes_the_rest(
    instance: Instance, clean: None, eventually: Callable[..., Any]
) -> None:
    layers = Layers(instance)
    first = LayerPool(layers, disk_mib=64, ready_target=1)
    await first.start(keep=[])
    await eventually(lambda: first.ready == 1)
    await first.acquire("kept", 64)
    await first.acquire("gone", 64)
    # No close: the daemon was killed.
    second = LayerPool(layers, disk_mib=64, ready_target=0)
    first._open = False
    await eventually(lambda: first._refill is None or first._refill.done())
    await second.start(keep=["kept"])
    assert [layer.id for layer in layers.list_owned()] == ["kept"]
    assert layers.get("kept").upper.is_dir()
    layers.remove_all()
