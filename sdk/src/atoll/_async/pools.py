"""Warm pools: running sandboxes kept ready, so that a create need not wait for one to start."""

from __future__ import annotations

from collections.abc import Sequence

from atoll._async.http import AsyncCall, AsyncHttp
from atoll._async.requests import checked_id, items, json_call
from atoll._async.snapshots import AsyncSnapshot
from atoll._config import Config
from atoll._errors import NotFound
from atoll._state_models import PoolInfo


class AsyncPool:
    """One warm pool. Made or changed by `set`, found by `list` and `get`.

    id, template, ready (how many are to wait), warm (how many did): as in `info`, which has the rest.
    """

    def __init__(self, http: AsyncHttp, info: PoolInfo) -> None:
        self._http = http
        self.info = info
        self.id = info.id
        self.template = info.template
        self.ready = info.ready
        self.warm = info.warm

    @classmethod
    async def set(
        cls,
        template: str | AsyncSnapshot,
        *,
        ready: int,
        runtime: str | None = None,
        cpu: float | None = None,
        memory_mib: int | None = None,
        disk_mib: int | None = None,
        pids_max: int | None = None,
        config: Config | None = None,
    ) -> AsyncPool:
        """Keep `ready` sandboxes (0 to 1000) waiting from now on; they start in the background.

        A create that asks for the same template (or snapshot), runtime and bounds is given one of them, in a fraction
        of the time; one that finds none is an ordinary create. There is one pool for each such set of values: the same
        values again change how many wait. The pool takes no room that the machine does not have.

        Raises InvalidArgument for a value out of range, NotFound for an unknown template or runtime.
        """
        http = AsyncHttp(config or Config.load())
        wanted = {
            "template": template if isinstance(template, str) else template.id,
            "ready": ready,
            "runtime": runtime,
            "cpu": cpu,
            "memory_mib": memory_mib,
            "disk_mib": disk_mib,
            "pids_max": pids_max,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        return cls(http, PoolInfo.from_json(await http.json(json_call("PUT", "/v1/pools", body, is_safe=True))))

    @classmethod
    async def list(cls, *, config: Config | None = None) -> Sequence[AsyncPool]:
        """The pools of your project, oldest first."""
        http = AsyncHttp(config or Config.load())
        answer = await http.json(AsyncCall("GET", "/v1/pools", is_safe=True))
        return [cls(http, PoolInfo.from_json(item)) for item in items(answer)]

    @classmethod
    async def get(cls, id: str, *, config: Config | None = None) -> AsyncPool:
        """The pool with this id, as it stands now. Raises NotFound."""
        http = AsyncHttp(config or Config.load())
        call = AsyncCall("GET", f"/v1/pools/{checked_id(id, 'pool')}", is_safe=True)
        return cls(http, PoolInfo.from_json(await http.json(call)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.template!r}, ready={self.ready})"

    async def delete(self) -> bool:
        """End what waits in it and forget it. False when it was gone already."""
        try:
            await self._http.json(AsyncCall("DELETE", f"/v1/pools/{self.id}", is_safe=True))
        except NotFound:
            return False
        return True
