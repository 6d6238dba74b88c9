"""`/v1/sandboxes/{id}/...`: samples, logs, events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from atolld.api.native.loglines import parse_lines
from atolld.api.native.query import sandbox_id
from atolld.api.native.schemas import EventView, Items, LogLine, UsageView
from atolld.api.services import Caller, Use
from atolld.foundation.units import KIB, MIB

router = APIRouter(tags=["observe"])


@router.get("/v1/sandboxes/{id}/metrics")
async def sandbox_metrics(
    id: str,
    use: Use,
    caller: Caller,
    start: Annotated[datetime | None, Query(description="RFC 3339; default: the start of the sandbox.")] = None,
    end: Annotated[datetime | None, Query(description="RFC 3339; default: now.")] = None,
) -> Items[UsageView]:
    """What the sandbox used, oldest sample first."""
    since = None if start is None else start.timestamp()
    until = None if end is None else end.timestamp()
    samples = await use.sandboxes.usage_samples(caller.project_id, sandbox_id(id), since, until)
    return Items(items=[UsageView.of(sample) for sample in samples])


@router.get("/v1/sandboxes/{id}/logs")
async def sandbox_logs(
    id: str,
    use: Use,
    caller: Caller,
    limit_bytes: Annotated[int, Query(ge=1, le=MIB, description="How much of the end to read.")] = 64 * KIB,
) -> Items[LogLine]:
    """The end of the agent's log. It was written inside the sandbox, so it may say anything."""
    return Items(items=parse_lines(await use.sandboxes.logs(caller.project_id, sandbox_id(id), limit_bytes)))


@router.get("/v1/sandboxes/{id}/events")
async def sandbox_events(
    id: str,
    use: Use,
    caller: Caller,
    after: Annotated[int, Query(ge=0, description="Only events with a greater `sequence`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Items[EventView]:
    """What happened to one sandbox, oldest first."""
    events = await use.events.list(caller.project_id, sandbox_id(id), after, limit)
    return Items(items=[EventView.of(event) for event in events])


@router.get("/v1/events")
async def project_events(
    use: Use,
    caller: Caller,
    after: Annotated[int, Query(ge=0, description="Only events with a greater `sequence`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Items[EventView]:
    """What happened to the project's sandboxes, oldest first."""
    events = await use.events.list(caller.project_id, None, after, limit)
    return Items(items=[EventView.of(event) for event in events])
