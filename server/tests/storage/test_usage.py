from __future__ import annotations

import pytest
from sqlalchemy import insert

from atolld.core.project import Project
from atolld.foundation.ids import new_project_id
from atolld.storage.database import Database
from atolld.storage.schema import usage
from atolld.storage.usage import SqlUsage


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (0.0, 100.0, [10.0, 20.0, 30.0]),
        (0.0, 10.0, []),
        (0.0, 10.5, [10.0]),
        (20.0, 30.0, [20.0]),
        (19.5, 30.5, [10.0, 20.0, 30.0]),
        (40.0, 50.0, []),
    ],
)
async def test_spans_that_overlap(
    database: Database, project: Project, since: float, until: float, found: list[float]
) -> None:
    rows = [
        {"sandbox_id": "i", "since": at, "until": at + 10, "project_id": project.id, "vcpu_s": 1.0, "memory_gib_s": 2.0}
        for at in (30.0, 10.0, 20.0)
    ]

    await database.write(lambda c: c.execute(insert(usage), rows))
    records = await SqlUsage(database).list(project.id, since, until)
    assert [record.since for record in records] == found
    assert all(record.vcpu_s == 1.0 and record.memory_gib_s == 2.0 for record in records)
    assert await SqlUsage(database).list(new_project_id(), since, until) == []
