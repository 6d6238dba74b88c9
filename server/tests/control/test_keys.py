from __future__ import annotations

import asyncio
import hashlib
import re

import pytest
from sqlalchemy import text

from atolld.control.keys import RECHECK_S, TOUCH_EVERY_S, Keys
from atolld.control.testing import World
from atolld.core.project import ApiKey, Principal
from atolld.foundation.aio import spawn
from atolld.foundation.errors import InvalidArgument, NotFound, Unauthenticated
from atolld.foundation.ids import new_key_id, new_project_id
from atolld.storage.keys import SqlKeys


async def test_a_new_key_speaks_for_its_project(world: World) -> None:
    key, secret = await world.keys.create(world.project.id, "laptop")
    assert re.fullmatch(r"e2b_[0-9a-f]{40}", secret)
    assert (key.name, key.prefix, key.created_at) == ("laptop", secret[:12], world.clock.now())
    for _ in range(2):
        assert await world.keys.authenticate(secret) == Principal(world.project.id, key.id)
    (listed,) = await world.keys.list(world.project.id)
    assert (listed.id, listed.last_used_at) == (key.id, world.clock.now())


async def test_the_secret_is_stored_nowhere(world: World) -> None:
    _, secret = await world.keys.create(world.project.id, "laptop")
    rows = await world.database.read(lambda c: [tuple(row) for row in c.execute(text("SELECT * FROM api_keys"))])
    assert secret not in str(rows)
    assert secret[12:] not in str(rows)
    assert hashlib.sha256(secret.encode()).hexdigest() in str(rows)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "e2b_",
        "e2b_" + "0" * 39,
        "e2b_" + "0" * 41,
        "e2b_" + "0" * 40 + "\n",
        "e2b_" + "G" * 40,
        "E2B_" + "0" * 40,
        "e2b_" + "٣" * 40,
        "sk_" + "0" * 40,
        "e2b_" + "0" * 40,
        "x" * 1_000_000,
    ],
)
async def test_not_a_key(world: World, secret: str) -> None:
    await world.keys.create(world.project.id, "laptop")
    with pytest.raises(Unauthenticated) as caught:
        await world.keys.authenticate(secret)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "\x00"])
async def test_bad_names(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument, match="key's name"):
        await world.keys.create(world.project.id, name)
    key, _ = await world.keys.create(world.project.id, "good")
    with pytest.raises(InvalidArgument, match="key's name"):
        await world.keys.rename(world.project.id, key.id, name)
    await world.keys.rename(world.project.id, key.id, "better")
    assert [known.name for known in await world.keys.list(world.project.id)] == ["better"]


async def test_no_project(world: World) -> None:
    with pytest.raises(NotFound):
        await world.keys.create(new_project_id(), "x")


async def test_a_revoked_key_is_refused_at_once(world: World) -> None:
    key, secret = await world.keys.create(world.project.id, "a")
    _, other = await world.keys.create(world.project.id, "b")
    await world.keys.authenticate(secret)
    await world.keys.revoke(world.project.id, key.id)
    with pytest.raises(Unauthenticated):
        await world.keys.authenticate(secret)
    await world.keys.authenticate(other)
    with pytest.raises(NotFound):
        await world.keys.revoke(world.project.id, key.id)
    with pytest.raises(NotFound):
        await world.keys.revoke(new_project_id(), new_key_id())


class SlowFind(SqlKeys):
    """Answers `find` only when told to, with what was true when it was asked."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database)
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def find(self, secret_sha256: str) -> ApiKey | None:
        found = await super().find(secret_sha256)
        self.reached.set()
        await self.opened.wait()
        return found


async def test_a_key_revoked_while_it_is_looked_up_is_refused(world: World) -> None:
    key, secret = await world.keys.create(world.project.id, "a")
    store = SlowFind(world)
    keys = Keys(store, world.clock)
    asking = spawn(keys.authenticate(secret), name="ask", report=False)
    await store.reached.wait()
    await keys.revoke(world.project.id, key.id)
    store.opened.set()
    with pytest.raises(Unauthenticated):
        await asking


async def test_a_key_revoked_by_another_process_is_refused_soon(world: World) -> None:
    key, secret = await world.keys.create(world.project.id, "a")
    await world.keys.authenticate(secret)
    await SqlKeys(world.database).revoke(world.project.id, key.id, 1.0)
    await world.clock.advance(RECHECK_S)
    with pytest.raises(Unauthenticated):
        await world.keys.authenticate(secret)


async def test_last_use_is_written_lazily(world: World) -> None:
    _, secret = await world.keys.create(world.project.id, "a")
    start = world.clock.now()
    for _ in range(10):
        await world.keys.authenticate(secret)
        await world.clock.advance(1)
    (listed,) = await world.keys.list(world.project.id)
    assert listed.last_used_at == start
    await world.clock.advance(TOUCH_EVERY_S)
    await world.keys.authenticate(secret)
    (listed,) = await world.keys.list(world.project.id)
    assert listed.last_used_at == world.clock.now()
