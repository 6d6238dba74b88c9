from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atolld.control.lists import ListFilters, decode_cursor, encode_cursor
from atolld.control.testing import World
from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.storage.store import Position


@given(st.floats(allow_nan=False, allow_infinity=False), st.from_regex(r"[a-z][0-9a-z]{19}", fullmatch=True))
def test_a_cursor_is_exact(listed_at: float, id: str) -> None:
    position = Position(listed_at, SandboxId(id))
    assert decode_cursor(encode_cursor(position)) == position


@given(st.text(max_size=200))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        decode_cursor(text)
    except InvalidArgument:
        return


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "!!!!",
        _packed("[]"),
        _packed("{}"),
        _packed("[1]"),
        _packed('[NaN,"i0123456789012345678"]'),
        _packed('[Infinity,"i0123456789012345678"]'),
        _packed('[1e999,"i0123456789012345678"]'),
        _packed('[true,"i0123456789012345678"]'),
        _packed('["1","i0123456789012345678"]'),
        _packed('[1,"\' OR 1=1"]'),
        _packed("[1,2]"),
        _packed("[" * 5000),
        _packed("[" + "9" * 5000 + ',"i0123456789012345678"]'),
    ],
)
async def test_bad_cursors(world: World, cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        await world.sandboxes.list(world.project.id, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_bad_limits(world: World, limit: int) -> None:
    with pytest.raises(InvalidArgument, match="limit"):
        await world.sandboxes.list(world.project.id, limit=limit)


async def test_no_state_at_all(world: World) -> None:
    with pytest.raises(InvalidArgument, match="states"):
        await world.sandboxes.list(world.project.id, ListFilters(states=frozenset()))


async def test_the_last_page_has_no_cursor(world: World) -> None:
    made = [await world.create() for _ in range(4)]
    page = await world.sandboxes.list(world.project.id, limit=4)
    assert (len(page.items), page.next_cursor) == (4, None)
    page = await world.sandboxes.list(world.project.id, ListFilters(order="asc"), limit=3)
    rest = await world.sandboxes.list(world.project.id, ListFilters(order="asc"), limit=3, cursor=page.next_cursor)
    assert {item.id for item in page.items + rest.items} == {one.id for one in made}
    assert rest.next_cursor is None


async def test_a_cursor_outlives_the_sandbox_it_points_at(world: World) -> None:
    made = []
    for _ in range(4):
        made.append(await world.create())
        await world.clock.advance(1)
    page = await world.sandboxes.list(world.project.id, limit=2)
    await world.sandboxes.kill(world.project.id, page.items[-1].id)
    rest = await world.sandboxes.list(world.project.id, limit=2, cursor=page.next_cursor)
    assert [item.id for item in rest.items] == [made[1].id, made[0].id]


async def test_ended_ones_when_asked_for(world: World) -> None:
    made = await world.create()
    await world.sandboxes.kill(world.project.id, made.id)
    assert (await world.sandboxes.list(world.project.id)).items == []
    page = await world.sandboxes.list(world.project.id, ListFilters(states=frozenset({SandboxState.ENDED})))
    assert [item.id for item in page.items] == [made.id]
    assert page.total_running == 0


def test_positions_of_new_ids() -> None:
    position = Position(1.25, new_sandbox_id())
    assert decode_cursor(encode_cursor(position)) == position
