"""What a new sandbox starts from, and what it costs to find out."""

from __future__ import annotations

import pytest

from atolld.control.origins import Origin, resolve_template
from atolld.control.templates import Templates
from atolld.control.testing import FakeTemplates
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId, TemplateId

PROJECT = ProjectId("p")
BOUNDS = Resources(2.0, 256, 1024, 64)
ID = SnapshotId("s" + "0" * 19)


class OneSnapshot:
    """Has one snapshot, and counts how often it was asked: each time is a query of the database."""

    def __init__(self) -> None:
        self.queries = 0

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        self.queries += 1
        if id_or_name not in (ID, "team/box:v1"):
            raise NotFound("there is no such snapshot")
        return Snapshot(
            id=ID,
            project_id=project_id,
            sandbox_id=SandboxId("i"),
            parent_id=None,
            role=SnapshotRole.SNAPSHOT,
            state=SnapshotState.READY,
            kind=SaveKind.MEMORY,
            name="team/box:v1",
            template_id=TemplateId("t"),
            template_name="base",
            runtime="container",
            resources=BOUNDS,
            agent_token="",
            secure=True,
            created_at=0.0,
        )


async def find(name: str, snapshots: OneSnapshot | None = None) -> Origin:
    return await resolve_template(Templates(FakeTemplates()), snapshots or OneSnapshot(), PROJECT, name)


async def test_a_template_that_exists_costs_no_query() -> None:
    snapshots = OneSnapshot()
    assert await find("base", snapshots) == Origin("base", "gvisor", Resources(), is_snapshot=False)
    assert snapshots.queries == 0


@pytest.mark.parametrize("name", [ID, "team/box:v1"])
async def test_a_snapshot_by_id_or_name(name: str) -> None:
    snapshots = OneSnapshot()
    assert await find(name, snapshots) == Origin("team/box:v1", "container", BOUNDS, is_snapshot=True)
    assert snapshots.queries == 1


async def test_neither() -> None:
    with pytest.raises(NotFound, match="no template 'nope', and no snapshot"):
        await find("nope")


@pytest.mark.parametrize("name", ["", "A", "a b", "../../etc", "a//b", "x" * 600, "\0"])
async def test_what_can_be_neither_is_asked_for_nowhere(name: str) -> None:
    snapshots = OneSnapshot()
    with pytest.raises(InvalidArgument, match="template is"):
        await find(name, snapshots)
    assert snapshots.queries == 0


def settle(origin: Origin, **asked: object) -> tuple[str, Resources]:
    nothing = dict.fromkeys(("runtime", "cpu", "memory_mib", "disk_mib", "pids_max"))
    return origin.settle(**{**nothing, **asked})  # type: ignore[arg-type]


def test_a_template_gives_what_was_not_asked_for() -> None:
    template = Origin("base", "gvisor", BOUNDS, is_snapshot=False)
    assert settle(template) == ("gvisor", BOUNDS)
    assert settle(template, runtime="container", cpu=0.5, pids_max=16) == ("container", Resources(0.5, 256, 1024, 16))


def test_a_snapshot_keeps_its_own() -> None:
    snapshot = Origin("box", "gvisor", BOUNDS, is_snapshot=True)
    assert settle(snapshot) == settle(snapshot, runtime="gvisor", cpu=2, memory_mib=256) == ("gvisor", BOUNDS)
    for asked in ({"runtime": "container"}, {"cpu": 1}, {"memory_mib": 512}, {"disk_mib": 1}, {"pids_max": 1}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(asked))} is .*'box' was taken with"):
            settle(snapshot, **asked)
