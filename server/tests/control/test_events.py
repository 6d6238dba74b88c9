from __future__ import annotations

import pytest

from atolld.control.testing import World
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import new_project_id


async def test_the_stream_can_be_followed(world: World) -> None:
    first, second = await world.create(), await world.create()
    await world.sandboxes.kill(world.project.id, first.id)
    seen: list[tuple[str, str]] = []
    after = 0
    while page := await world.events.list(world.project.id, after_sequence=after, limit=2):
        seen += [(event.type.value, event.sandbox_id) for event in page]
        after = page[-1].sequence
    assert seen == [
        ("sandbox.created", first.id),
        ("sandbox.created", second.id),
        ("sandbox.killed", first.id),
    ]
    assert [event.sandbox_id for event in await world.events.list(world.project.id, second.id)] == [second.id]
    assert await world.events.list(new_project_id()) == []


@pytest.mark.parametrize(("limit", "after"), [(0, 0), (1001, 0), (-1, 0), (10, -1), (10, 2**63)])
async def test_bad_numbers(world: World, limit: int, after: int) -> None:
    with pytest.raises(InvalidArgument):
        await world.events.list(world.project.id, after_sequence=after, limit=limit)
