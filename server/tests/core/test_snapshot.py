from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from atolld.core.sandbox import Resources
from atolld.core.snapshot import (
    MAX_NAME,
    Saved,
    SaveKind,
    Snapshot,
    SnapshotRole,
    SnapshotState,
    check_snapshot_name,
    check_snapshot_ref,
    plain_name,
    snapshot_transition,
)
from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.foundation.ids import ProjectId, TemplateId, new_sandbox_id, new_snapshot_id

T = SnapshotState
# Written out by hand, so that a change of the table has to be made twice on purpose.
ALLOWED = {
    (T.CREATING, T.READY),
    (T.CREATING, T.DELETING),
    (T.READY, T.DELETING),
    (T.DELETING, T.DELETED),
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(T, T)))
def test_every_pair(source: SnapshotState, target: SnapshotState) -> None:
    if (source, target) in ALLOWED:
        assert snapshot_transition(source, target) is target
    else:
        with pytest.raises(FailedPrecondition, match=f"{source.value} cannot become {target.value}"):
            snapshot_transition(source, target)


@pytest.mark.parametrize(
    "name",
    ["a", "0", "a-b_c.d", "team/base", "team/base:v1.2", "a:default", "a" * MAX_NAME, f"{'a' * 126}:v", "s" + "a" * 20],
)
def test_names(name: str) -> None:
    assert check_snapshot_name(name) == name == check_snapshot_ref(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "é",
        "a b",
        "-a",
        "a-",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "a..b",
        "a:",
        ":v",
        "a:b:c",
        "a:V",
        "a\n",
        "a" * (MAX_NAME + 1),
        "s" + "a" * 19,
        "s" + "a" * 19 + ":default",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_snapshot_name(name)


def test_an_id_is_a_reference_and_no_name() -> None:
    id = new_snapshot_id()
    assert check_snapshot_ref(id) == id
    with pytest.raises(InvalidArgument, match="form of a snapshot's id"):
        check_snapshot_name(id)


@pytest.mark.parametrize(
    ("name", "plain"), [("a", "a"), ("a:default", "a"), ("a:v1", "a:v1"), ("default", "default"), ("a-default",) * 2]
)
def test_the_default_tag_is_not_written_down(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_size() -> None:
    snapshot = Snapshot(
        id=new_snapshot_id(),
        project_id=ProjectId("p"),
        sandbox_id=new_sandbox_id(),
        parent_id=None,
        role=SnapshotRole.SNAPSHOT,
        state=T.CREATING,
        kind=SaveKind.MEMORY,
        name=None,
        template_id=TemplateId("t"),
        template_name="base",
        runtime="gvisor",
        resources=Resources(),
        agent_token="x",
        secure=True,
        created_at=1.0,
    )
    assert snapshot.size_bytes == 0
    assert replace(snapshot, saved=Saved(SaveKind.MEMORY, 5, 7, "e", 0.1)).size_bytes == 12
