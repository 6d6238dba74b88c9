from __future__ import annotations

import pytest

from atolld.core.project import ApiKey, Project
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import KeyId, ProjectId, new_key_id, new_project_id
from atolld.storage.database import Database
from atolld.storage.keys import SqlKeys


def _key(project_id: ProjectId, created_at: float = 1.0) -> ApiKey:
    return ApiKey(new_key_id(), project_id, "mine", "e2b_01234567", created_at)


async def test_life_of_a_key(database: Database, project: Project) -> None:
    store = SqlKeys(database)
    first, second = _key(project.id, 2.0), _key(project.id, 1.0)
    await store.insert(first, "aa")
    await store.insert(second, "bb")
    assert await store.list(project.id) == [second, first]
    assert await store.find("aa") == first
    assert await store.find("cc") is None
    await store.touch({first.id: 5.0, KeyId("gone"): 6.0})
    await store.touch({})
    await store.rename(project.id, second.id, "other")
    assert [key.name for key in await store.list(project.id)] == ["other", "mine"]
    await store.revoke(project.id, first.id, 9.0)
    found = await store.find("aa")
    assert found is not None
    assert (found.last_used_at, found.revoked_at) == (5.0, 9.0)
    with pytest.raises(NotFound):
        await store.revoke(project.id, first.id, 10.0)
    with pytest.raises(NotFound):
        await store.rename(project.id, first.id, "late")


async def test_another_projects_key_is_out_of_reach(database: Database, project: Project) -> None:
    store = SqlKeys(database)
    key = _key(project.id)
    await store.insert(key, "aa")
    with pytest.raises(NotFound):
        await store.revoke(new_project_id(), key.id, 1.0)
    with pytest.raises(NotFound):
        await store.rename(new_project_id(), key.id, "theirs")
    assert (await store.list(project.id))[0].name == "mine"
    assert await store.list(new_project_id()) == []


async def test_no_project(database: Database) -> None:
    with pytest.raises(NotFound, match="no project"):
        await SqlKeys(database).insert(_key(new_project_id()), "aa")
