"""Sandboxes in pages."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from atoll._async.http import AsyncCall, AsyncHttp
from atoll._errors import Internal
from atoll._models import SandboxInfo


class AsyncSandboxList:
    """Sandboxes that match a filter: iterate over all of them, or call `next_page` while `has_next`.

    total_running: how many sandboxes of the project run, whatever the filter; None before the first page.
    """

    def __init__(self, http: AsyncHttp, params: Mapping[str, str | Sequence[str]]) -> None:
        self._http = http
        self._params = dict(params)
        self._page: deque[SandboxInfo] = deque()
        self.has_next = True
        self.total_running: int | None = None

    async def next_page(self) -> Sequence[SandboxInfo]:
        """The next page, empty after the last."""
        if not self.has_next:
            return []
        answer = await self._http.json(AsyncCall("GET", "/v1/sandboxes", params=self._params, is_safe=True))
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise Internal("the daemon's answer is not a page of sandboxes")
        total = answer.get("total_running")
        self.total_running = total if isinstance(total, int) else None
        cursor = answer.get("next_cursor")
        self.has_next = bool(cursor)
        if cursor:
            self._params["cursor"] = str(cursor)
        return [SandboxInfo.from_json(item) for item in answer["items"]]

    def __aiter__(self) -> AsyncSandboxList:
        return self

    async def __anext__(self) -> SandboxInfo:
        while not self._page:
            if not self.has_next:
                raise StopAsyncIteration
            self._page.extend(await self.next_page())
        return self._page.popleft()
