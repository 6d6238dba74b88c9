from __future__ import annotations

import pytest

from atolld.core.pool import MAX_READY, Pool
from atolld.core.sandbox import Resources
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import ProjectId, new_pool_id


def _pool(ready: int, resources: Resources | None = None) -> Pool:
    return Pool(new_pool_id(), ProjectId("p"), "base", "gvisor", resources or Resources(), ready, 1.0)


@pytest.mark.parametrize("ready", [0, 1, MAX_READY])
def test_good(ready: int) -> None:
    _pool(ready).check()


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (_pool(-1), f"ready is -1; it must be between 0 and {MAX_READY}"),
        (_pool(MAX_READY + 1), "ready"),
        (_pool(1, Resources(cpu=0)), "cpu"),
    ],
)
def test_bad(pool: Pool, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        pool.check()
