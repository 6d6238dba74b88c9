"""Writes of a sandbox's row that are guarded by the state they were computed from."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, Update, bindparam, select, update

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import Conflict
from atolld.foundation.ids import SandboxId
from atolld.storage.schema import sandboxes


def guarded(connection: Connection, id: SandboxId, sources: Collection[SandboxState], **values: object) -> None:
    """Set columns of a sandbox that is in one of `sources`; Raises Conflict when it is in none of them."""
    parameters = {f"new_{name}": value for name, value in values.items()}
    change = _guarded_update(tuple(values))
    states = sorted(source.value for source in sources)
    if connection.execute(change, {"guard_id": id, "guard_states": states, **parameters}).rowcount == 0:
        raise _moved_on(id, sources)


def hold(connection: Connection, id: SandboxId, sources: Collection[SandboxState]) -> Row[Any]:
    """The whole row of a sandbox in one of `sources`, which nobody else changes until the transaction ends.

    For writes that need what a column held before. Raises Conflict.
    """
    states = sorted(source.value for source in sources)
    row = connection.execute(_held(), {"guard_id": id, "guard_states": states}).first()
    if row is None:
        raise _moved_on(id, sources)
    return row


def _moved_on(id: SandboxId, sources: Collection[SandboxState]) -> Conflict:
    names = " or ".join(sorted(source.value for source in sources))
    return Conflict(f"sandbox {id} is no longer {names}: something else changed it first")


@cache
def _guarded_update(names: tuple[str, ...]) -> Update:
    # Kept by the columns it sets: building a statement costs as much as running it.
    table = sandboxes.c
    return (
        update(sandboxes)
        .where(table.id == bindparam("guard_id"), table.state.in_(bindparam("guard_states", expanding=True)))
        .values({name: bindparam(f"new_{name}", type_=table[name].type) for name in names})
    )


@cache
def _held() -> Select[Any]:
    table = sandboxes.c
    return (
        select(sandboxes)
        .where(table.id == bindparam("guard_id"), table.state.in_(bindparam("guard_states", expanding=True)))
        .with_for_update()
    )
