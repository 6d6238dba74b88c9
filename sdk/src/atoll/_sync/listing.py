# Generated from `src/atoll/_async/listing.py` by `scripts/unasync.py`: change that, not this.
"""What comes in pages."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from atoll._sync.http import Call, Http
from atoll._errors import Internal
from atoll._models import SandboxInfo

T = TypeVar("T")


class Pages(Generic[T]):
    """Everything that matches a filter: iterate over all of it, or call `next_page` while `has_next`."""

    _path = ""

    def __init__(self, http: Http, params: Mapping[str, str | Sequence[str]]) -> None:
        self._http = http
        self._params = dict(params)
        self._page: deque[T] = deque()
        self.has_next = True

    def next_page(self) -> Sequence[T]:
        """The next page, empty after the last."""
        if not self.has_next:
            return []
        answer = self._http.json(Call("GET", self._path, params=self._params, is_safe=True))
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise Internal("the daemon's answer is not a page of a list")
        cursor = answer.get("next_cursor")
        self.has_next = bool(cursor)
        if cursor:
            self._params["cursor"] = str(cursor)
        return self._read(answer)

    def __iter__(self) -> Pages[T]:
        return self

    def __next__(self) -> T:
        while not self._page:
            if not self.has_next:
                raise StopIteration
            self._page.extend(self.next_page())
        return self._page.popleft()

    def _read(self, answer: Mapping[str, Any]) -> Sequence[T]:
        raise NotImplementedError


class SandboxList(Pages[SandboxInfo]):
    """Sandboxes that match a filter: iterate over all of them, or call `next_page` while `has_next`.

    total_running: how many sandboxes of the project run, whatever the filter; None before the first page.
    """

    _path = "/v1/sandboxes"
    total_running: int | None = None

    def _read(self, answer: Mapping[str, Any]) -> Sequence[SandboxInfo]:
        total = answer.get("total_running")
        self.total_running = total if isinstance(total, int) else None
        return [SandboxInfo.from_json(item) for item in answer["items"]]
