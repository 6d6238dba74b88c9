from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atolld.control.archives import draft_import, facts_of
from atolld.control.testing import SPEC, World
from atolld.core.project import ProjectLimits
from atolld.core.sandbox import Resources
from atolld.core.snapshot import Saved, SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.errors import Capacity, InvalidArgument, LimitExceeded
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId, TemplateId, new_project_id

SAVED = Saved(SaveKind.MEMORY, 10, 20, "fake 1", 0.5)
SNAPSHOT = Snapshot(
    id=SnapshotId("s" + "1" * 19),
    project_id=ProjectId("p"),
    sandbox_id=SandboxId("i" + "0" * 19),
    parent_id=SnapshotId("s" + "3" * 19),
    role=SnapshotRole.SNAPSHOT,
    state=SnapshotState.READY,
    kind=SaveKind.MEMORY,
    name="there",
    template_id=TemplateId("abc"),
    template_name="base",
    runtime="gvisor",
    resources=Resources(2.0, 256, 1024, 64),
    agent_token="the-token",
    secure=True,
    created_at=7.0,
    saved=SAVED,
)


def test_facts_there_and_back() -> None:
    other, project = SnapshotId("s" + "2" * 19), new_project_id()
    drafted = draft_import(other, project, "here", facts_of(SNAPSHOT), SAVED)
    assert drafted == replace(
        SNAPSHOT,
        id=other,
        project_id=project,
        parent_id=None,
        name="here",
        state=SnapshotState.CREATING,
        saved=None,
    )
    assert draft_import(other, project, None, facts_of(SNAPSHOT), SAVED).name is None


@pytest.mark.parametrize("name", ["base", "team/app", "debian:12", "localhost:5000/box:v1", "[::1]:5000/a@sha256:00"])
def test_whatever_a_sandbox_began_with(name: str) -> None:
    facts = facts_of(replace(SNAPSHOT, template_name=name))
    assert draft_import(SNAPSHOT.id, SNAPSHOT.project_id, None, facts, SAVED).template_name == name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sandbox_id", "../../x"),
        ("sandbox_id", 7),
        ("template_id", "a/b"),
        ("template_id", ""),
        ("template_name", "../base"),
        ("template_name", ""),
        ("template_name", "a b"),
        ("template_name", "a" * 601),
        ("runtime", "a b"),
        ("cpu", 0),
        ("cpu", "2"),
        ("cpu", True),
        ("cpu", float("nan")),
        ("memory_mib", 1.5),
        ("memory_mib", 1 << 60),
        ("disk_mib", -1),
        ("pids_max", None),
        ("agent_token", "a\nb"),
        ("agent_token", "x" * 200),
        ("agent_token", None),
        ("created_at", "now"),
        ("created_at", float("inf")),
    ],
)
def test_facts_are_judged(key: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match="archive"):
        draft_import(SNAPSHOT.id, SNAPSHOT.project_id, None, facts_of(SNAPSHOT) | {key: value}, SAVED)
    missing = facts_of(SNAPSHOT)
    del missing[key]
    with pytest.raises(InvalidArgument, match="archive"):
        draft_import(SNAPSHOT.id, SNAPSHOT.project_id, None, missing, SAVED)


async def archive_of(world: World, id_or_name: str) -> bytes:
    stream = await world.sandboxes.snapshots.export(world.project.id, id_or_name)
    return b"".join([piece async for piece in stream])


async def stream(archive: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(archive), 50):
        yield archive[start : start + 50]


async def test_a_snapshot_goes_to_another_machine(world: World, tmp_path: Path) -> None:
    made = await world.create()
    world.node.machine.sandboxes[made.id].memory = {"n": 1}
    source = await world.sandboxes.snapshots.create(world.project.id, made.id, "before")
    archive = await archive_of(world, "before")
    there = await World.open(tmp_path / "there.db")
    got = await there.sandboxes.snapshots.import_(there.project.id, "after", stream(archive))
    assert got == replace(source, id=got.id, project_id=there.project.id, name="after", saved=got.saved)
    created = await there.sandboxes.create(there.project.id, replace(SPEC, template="after"))
    assert there.node.machine.sandboxes[created.id].memory == {"n": 1}
    await there.close()


async def test_an_import_beside_its_living_source_changes_nothing_of_it(world: World) -> None:
    made = await world.create()
    source = await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
    copy = await world.sandboxes.snapshots.import_(world.project.id, None, stream(await archive_of(world, "name")))
    assert (await world.row(made.id)).head_id == source.id
    assert (copy.name, copy.parent_id) == (None, None)
    assert (await world.sandboxes.snapshots.get(world.project.id, "name")).id == source.id
    # And the sandbox can be rolled back to it, as to any other that was taken of it.
    await world.sandboxes.rollback(world.project.id, made.id, copy.id)


async def test_what_is_refused_leaves_nothing(world: World) -> None:
    made = await world.create()
    source = await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
    archive = await archive_of(world, "name")
    snapshots = world.sandboxes.snapshots
    with pytest.raises(InvalidArgument):
        await snapshots.import_(world.project.id, None, stream(b"PK" + archive))
    with pytest.raises(InvalidArgument):
        await snapshots.import_(world.project.id, "..", stream(archive))
    world.node.fail("import_save", Capacity("full"))
    with pytest.raises(Capacity):
        await snapshots.import_(world.project.id, None, stream(archive))
    await world.projects.set_limits(world.project.id, ProjectLimits(max_snapshots=1))
    with pytest.raises(LimitExceeded):
        await snapshots.import_(world.project.id, None, stream(archive))
    assert list(world.node.machine.saves) == [source.id]
    assert [one.id for one in (await snapshots.list(world.project.id)).items] == [source.id]
    assert await world.snapshots.interrupted() == []
