"""Lists of sandboxes: filters, pages, and the cursor between two pages."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from atolld.core.lifecycle import LIVE_STATES, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.foundation.ids import ProjectId, parse_sandbox_id
from atolld.storage.store import Position, SandboxQuery, SandboxStore

MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class ListFilters:
    """What a list holds: all filters must match.

    `states`: any of them. `metadata`: every pair, by equality. `template`: its name or id. `started_after`: Unix
    seconds, exclusive. `order`: by start (until then by creation); the newest first with `desc`.
    """

    states: frozenset[SandboxState] = LIVE_STATES
    metadata: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    started_after: float | None = None
    order: Literal["asc", "desc"] = "desc"


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `next_cursor` is None on the last one; `total_running` counts the whole project, without filters."""

    items: list[Sandbox]
    next_cursor: str | None
    total_running: int


async def read_page(
    store: SandboxStore, project_id: ProjectId, filters: ListFilters, limit: int, cursor: str | None, total_running: int
) -> Page:
    """Raises InvalidArgument when `limit` is not 1 to 100 or `cursor` is none of ours."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"limit is {limit}; it must be between 1 and {MAX_LIMIT}")
    if not filters.states:
        raise InvalidArgument("states is empty: name at least one state")
    query = SandboxQuery(
        project_id=project_id,
        states=filters.states,
        metadata=filters.metadata,
        template=filters.template,
        started_after=filters.started_after,
        order=filters.order,
        limit=limit + 1,
        after=decode_cursor(cursor) if cursor else None,
    )
    found = await store.list(query)
    page = found[:limit]
    more = encode_cursor(page[-1].position) if len(found) > limit else None
    return Page([one.sandbox for one in page], more, total_running)


def encode_cursor(position: Position) -> str:
    """`position` as opaque text of URL-safe characters."""
    packed = json.dumps([position.listed_at, position.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(packed.encode("ascii")).decode("ascii").rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """Raises InvalidArgument when `cursor` was not made by `encode_cursor`."""
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        listed_at, id = json.loads(packed, parse_constant=_refuse)
        if not isinstance(listed_at, float | int) or isinstance(listed_at, bool) or not isinstance(id, str):
            raise ValueError("not a position")
        if not math.isfinite(listed_at):
            raise ValueError("not a time")
        return Position(float(listed_at), parse_sandbox_id(id))
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error, AtollError):
        raise InvalidArgument(
            f"the cursor {cursor[:80]!r} is not one that a list has returned; leave it out to begin anew"
        ) from None


def _refuse(constant: str) -> float:
    raise ValueError(constant)
