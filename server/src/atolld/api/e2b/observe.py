"""Metrics and logs of sandboxes, in E2B's forms."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from atolld.api.e2b.logs import LogEntry, Logs, LogsV2, after, entries_of, line_of, selected
from atolld.api.e2b.query import sandbox_id, sandbox_ids
from atolld.api.e2b.views import Metric, Metrics
from atolld.api.services import Caller, Services, Use
from atolld.core.project import Principal
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import SandboxId
from atolld.foundation.units import MIB

router = APIRouter(tags=["sandboxes"])

MAX_LINES = 1000
# What is searched: the end of the agent's log.
LOG_BYTES = 4 * MIB

UnixSeconds = Annotated[int | None, Query(ge=0, lt=2**40, description="Unix seconds.")]
UnixMillis = Annotated[int | None, Query(ge=0, lt=2**50, description="Unix milliseconds.")]
Limit = Annotated[int, Query(ge=0, le=MAX_LINES)]


@router.get("/sandboxes/metrics")
async def metrics_of_many(
    use: Use, caller: Caller, sandbox_ids_: Annotated[str, Query(alias="sandbox_ids", description="With commas.")]
) -> Metrics:
    """The newest sample of each; a sandbox without one, or that is not there, is left out."""
    newest = {id: await _newest(use, caller, id) for id in sandbox_ids(sandbox_ids_)}
    return Metrics(sandboxes={id: metric for id, metric in newest.items() if metric is not None})


@router.get("/sandboxes/{id}/metrics")
async def metrics_of_one(
    id: str, use: Use, caller: Caller, start: UnixSeconds = None, end: UnixSeconds = None
) -> list[Metric]:
    """Samples of the last hour, 5 s apart, oldest first."""
    if start is not None and end is not None and start > end:
        raise InvalidArgument("start must not be after end")
    # A whole second names all of itself.
    until = None if end is None else end + 0.999
    samples = await use.sandboxes.usage_samples(caller.project_id, sandbox_id(id), start, until)
    return [Metric.of(sample) for sample in samples]


@router.get("/sandboxes/{id}/logs")
async def logs(id: str, use: Use, caller: Caller, start: UnixMillis = None, limit: Limit = MAX_LINES) -> Logs:
    """Lines of the agent's log from `start` on, oldest first (deprecated by E2B)."""
    entries = after(await _entries(use, caller, sandbox_id(id)), start)[:limit]
    return Logs(logs=[line_of(entry) for entry in entries], logEntries=entries)


@router.get("/v2/sandboxes/{id}/logs")
async def logs_v2(
    id: str,
    use: Use,
    caller: Caller,
    cursor: UnixMillis = None,
    limit: Limit = MAX_LINES,
    direction: Literal["forward", "backward"] = "forward",
    level: Annotated[Literal["debug", "info", "warn", "error"] | None, Query(description="And above.")] = None,
    search: Annotated[str | None, Query(max_length=256, description="Part of the message.")] = None,
) -> LogsV2:
    """Lines of the agent's log from `cursor` on: `forward` to newer ones, `backward` to older ones, newest first."""
    entries = await _entries(use, caller, sandbox_id(id))
    return LogsV2(logs=selected(entries, cursor, direction, level, search)[:limit])


async def _newest(use: Services, caller: Principal, id: SandboxId) -> Metric | None:
    try:
        samples = await use.sandboxes.usage_samples(caller.project_id, id)
    except NotFound:
        return None
    return Metric.of(samples[-1]) if samples else None


async def _entries(use: Services, caller: Principal, id: SandboxId) -> list[LogEntry]:
    sandbox: Sandbox = await use.sandboxes.get(caller.project_id, id)
    log = await use.sandboxes.logs(caller.project_id, id, LOG_BYTES)
    return entries_of(log, sandbox.started_at if sandbox.started_at is not None else sandbox.created_at)
