from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.core.pool import Pool
from atolld.core.project import Project
from atolld.core.sandbox import Resources
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId, new_pool_id, new_project_id
from atolld.storage.database import Database
from atolld.storage.pools import SqlPools
from atolld.storage.projects import SqlProjects


def _new(project_id: ProjectId, created_at: float = 1.0) -> Pool:
    return Pool(new_pool_id(), project_id, "t" * 128, "gvisor", Resources(0.1, 256, 1024, 99), 4, created_at)


async def test_what_is_stored_comes_back(database: Database, project: Project) -> None:
    store, pool = SqlPools(database), _new(project.id)
    assert await store.put(pool) == pool
    assert await store.get(project.id, pool.id) == pool
    assert await store.list(project.id) == [pool] == await store.list(None)
    await store.delete(project.id, pool.id)
    assert await store.list(None) == []


async def test_the_same_pool_again_keeps_its_id(database: Database, project: Project) -> None:
    store, pool = SqlPools(database), _new(project.id)
    await store.put(pool)
    again = replace(pool, id=new_pool_id(), ready=0, created_at=2.0)
    assert await store.put(again) == replace(pool, ready=0)
    assert await store.list(None) == [replace(pool, ready=0)]


async def test_what_makes_it_another_pool(database: Database, project: Project) -> None:
    other = await SqlProjects(database).ensure(Project(new_project_id(), "other"), 1.0)
    pool, resources = _new(project.id), _new(project.id).resources
    wanted = [
        pool,
        replace(pool, project_id=other.id),
        replace(pool, template="other"),
        replace(pool, runtime="container"),
        *(
            replace(pool, resources=replace(resources, **{name: 500}))
            for name in ("cpu", "memory_mib", "disk_mib", "pids_max")
        ),
    ]
    store = SqlPools(database)
    put = [await store.put(replace(one, id=new_pool_id(), created_at=float(n))) for n, one in enumerate(wanted)]
    assert await store.list(None) == put
    assert await store.list(other.id) == [put[1]]


async def test_unknown(database: Database, project: Project) -> None:
    store, pool = SqlPools(database), _new(project.id)
    await store.put(pool)
    with pytest.raises(NotFound, match="no project"):
        await store.put(_new(new_project_id()))
    for project_id, id in ((project.id, new_pool_id()), (new_project_id(), pool.id)):
        with pytest.raises(NotFound, match=f"no pool {id}"):
            await store.get(project_id, id)
        with pytest.raises(NotFound, match=f"no pool {id}"):
            await store.delete(project_id, id)
    assert await store.list(None) == [pool]
