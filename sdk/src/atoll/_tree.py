"""A tree of checkpoints, drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from atoll._state_models import SnapshotInfo

HERE = "  <- here"


def draw(checkpoints: Sequence[SnapshotInfo], head_id: str | None) -> str:
    """One line for each, below its parent: name, id, size, time, and where the sandbox stands.

    One whose parent is not among them begins a tree of its own.
    """
    return "\n".join(_lines(checkpoints, head_id))


def _lines(checkpoints: Sequence[SnapshotInfo], head_id: str | None) -> Iterator[str]:
    known = {one.id for one in checkpoints}
    below: defaultdict[str | None, list[SnapshotInfo]] = defaultdict(list)
    for one in checkpoints:
        below[one.parent_id if one.parent_id in known else None].append(one)
    # Not by recursion: a chain of a thousand checkpoints is nothing unusual.
    waiting = [(one, "", "") for one in reversed(below[None])]
    while waiting:
        one, first, rest = waiting.pop()
        yield first + _label(one) + (HERE if one.id == head_id else "")
        children = below[one.id]
        for place, child in reversed(list(enumerate(children))):
            is_last = place == len(children) - 1
            waiting.append((child, rest + ("`- " if is_last else "|- "), rest + ("   " if is_last else "|  ")))


def _label(one: SnapshotInfo) -> str:
    name = one.name or ("(pause)" if one.role == "pause" else "(unnamed)")
    kind = "" if one.kind == "memory" else f"  {one.kind}"
    moment = "" if one.created_at is None else one.created_at.astimezone().strftime("  %Y-%m-%d %H:%M:%S")
    return f"{name}  {one.id}{kind}  {one.size_bytes / 2**20:.1f} MiB{moment}"
