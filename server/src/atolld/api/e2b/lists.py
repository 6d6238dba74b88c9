"""Lists of sandboxes, in both forms."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from atolld.api.e2b.query import RUNNING_STATES, metadata_filter, states_of
from atolld.api.e2b.views import ListedSandbox
from atolld.api.services import Caller, Use
from atolld.control.lists import ListFilters

router = APIRouter(tags=["sandboxes"])

METADATA = "Pairs that all must match, form-encoded, with keys and values percent-encoded before."

Metadata = Annotated[str | None, Query(description=METADATA)]


async def filters_of(
    state: Annotated[list[str], Query(description="running, paused; default: both.")] = [],  # noqa: B006
    metadata: Metadata = None,
    template: str | None = None,
    startedAfter: datetime | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> ListFilters:
    """The filters in a request's query. Raises InvalidArgument."""
    return ListFilters(
        states=states_of(state),
        metadata=metadata_filter(metadata),
        template=template,
        # Here a sandbox started at that very time counts.
        started_after=None if startedAfter is None else math.nextafter(startedAfter.timestamp(), 0),
        order=order,
    )


Filters = Annotated[ListFilters, Depends(filters_of)]


@router.get("/sandboxes")
async def list_sandboxes(use: Use, caller: Caller, metadata: Metadata = None) -> list[ListedSandbox]:
    """All running sandboxes, the newest first (deprecated by E2B)."""
    filters = ListFilters(states=RUNNING_STATES, metadata=metadata_filter(metadata))
    page = await use.sandboxes.list(caller.project_id, filters)
    items = page.items
    while page.next_cursor is not None:
        page = await use.sandboxes.list(caller.project_id, filters, cursor=page.next_cursor)
        items += page.items
    return [ListedSandbox.of(sandbox) for sandbox in items]


@router.get("/v2/sandboxes")
async def list_sandboxes_v2(
    use: Use,
    caller: Caller,
    response: Response,
    filters: Filters,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    nextToken: Annotated[str | None, Query(max_length=512)] = None,
) -> list[ListedSandbox]:
    """A page of sandboxes by time of start; `x-next-token` is the `nextToken` of the next one, absent on the last."""
    page = await use.sandboxes.list(caller.project_id, filters, limit, nextToken)
    response.headers["x-total-running"] = str(page.total_running)
    if page.next_cursor is not None:
        response.headers["x-next-token"] = page.next_cursor
    return [ListedSandbox.of(sandbox) for sandbox in page.items]
