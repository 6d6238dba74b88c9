"""Snapshots and forks."""

from __future__ import annotations

import uuid
from typing import Any

from e2e.e2b.runners.harness import Run, check, go
from e2e.e2b.runners.pauses import expect_all_there, expect_rebooted, with_traces

NOBODY = "iaaaaaaaaaaaaaaaaaaaa"


async def all_ids(paginator: Any) -> list[str]:
    found: list[str] = []
    while paginator.has_next:
        found += [one.snapshot_id for one in await go(paginator.next_items())]
    return found


@check(
    "Sandbox.create_snapshot",
    "Sandbox.list_snapshots",
    "Sandbox.delete_snapshot",
    "SnapshotPaginator.next_items",
    "Sandbox.create",
)
async def keep_and_start_from_it(run: Run) -> None:
    sb, pid, boot_id = await with_traces(run)
    kept = await go(sb.create_snapshot())
    assert kept.snapshot_id and not getattr(kept, "names", [])
    await expect_all_there(sb, pid, boot_id)
    await go(sb.files.write("/home/user/kept", "changed"))
    # It outlives the sandbox it was taken of.
    await go(sb.kill())
    assert kept.snapshot_id in await all_ids(run.Sandbox.list_snapshots())
    for _ in range(2):
        made = await run.create(template=kept.snapshot_id)
        assert made.sandbox_id != sb.sandbox_id
        await expect_all_there(made, pid, boot_id)
        await go(made.files.write("/home/user/kept", "changed here only"))
        await go(made.kill())
    assert await go(run.Sandbox.delete_snapshot(kept.snapshot_id)) is True
    assert await go(run.Sandbox.delete_snapshot(kept.snapshot_id)) is False
    assert kept.snapshot_id not in await all_ids(run.Sandbox.list_snapshots())
    await run.raises("SandboxException", lambda: run.create(template=kept.snapshot_id))


@check("Sandbox.create_snapshot", "Sandbox.list_snapshots", "Sandbox.delete_snapshot", "Sandbox.create")
async def keep_under_a_name(run: Run) -> None:
    run.takes(run.Sandbox._cls_create_snapshot, "name")
    name = f"suite-{uuid.uuid4().hex[:12]}"
    sb = await run.create()
    await go(sb.files.write("/home/user/version", "1"))
    first = await go(sb.create_snapshot(name=name))
    assert name in first.snapshot_id
    if hasattr(first, "names"):
        assert [one for one in first.names if name in one] == first.names != []
    tagged = await go(run.Sandbox.create_snapshot(sb.sandbox_id, name=f"{name}:v1"))
    await go(sb.files.write("/home/user/version", "2"))
    second = await go(sb.create_snapshot(name=name))
    assert second.snapshot_id == first.snapshot_id, "the name did not move"

    async def version_of(template: str) -> str:
        made = await run.create(template=template)
        try:
            return str(await go(made.files.read("/home/user/version")))
        finally:
            await go(made.kill())

    assert await version_of(name) == "2"
    assert await version_of(second.snapshot_id) == "2"
    assert await version_of(f"{name}:v1") == "1"
    # The first one has lost its name and is still there.
    ids = await all_ids(sb.list_snapshots())
    assert len(ids) == 3 and {tagged.snapshot_id, second.snapshot_id} < set(ids)
    for id in ids:
        assert await go(run.Sandbox.delete_snapshot(id)) is True
    assert await all_ids(sb.list_snapshots()) == []
    await go(sb.kill())


@check("Sandbox.list_snapshots", "SnapshotPaginator.next_items")
async def list_snapshots_by_pages(run: Run) -> None:
    sb, other = await run.create(), await run.create()
    made = [(await go(sb.create_snapshot())).snapshot_id for _ in range(3)]
    foreign = (await go(other.create_snapshot())).snapshot_id
    pages = run.Sandbox.list_snapshots(sandbox_id=sb.sandbox_id, limit=2)
    first = [one.snapshot_id for one in await go(pages.next_items())]
    assert first == made[:0:-1] and pages.has_next and pages.next_token
    assert [one.snapshot_id for one in await go(pages.next_items())] == [made[0]]
    assert not pages.has_next
    assert {*made, foreign} <= set(await all_ids(run.Sandbox.list_snapshots(limit=1)))
    for id in (*made, foreign):
        await go(run.Sandbox.delete_snapshot(id))
    await go(sb.kill())
    await go(other.kill())


@check("Sandbox.list_snapshots")
async def find_a_snapshot_by_name(run: Run) -> None:
    run.takes(run.Sandbox._cls_list_snapshots, "name")
    name = f"suite-{uuid.uuid4().hex[:12]}"
    sb = await run.create()
    kept = await go(sb.create_snapshot(name=name))
    assert await all_ids(run.Sandbox.list_snapshots(name=name)) == [kept.snapshot_id]
    assert await all_ids(run.Sandbox.list_snapshots(name=f"{name}:none")) == []
    await go(run.Sandbox.delete_snapshot(kept.snapshot_id))
    await go(sb.kill())


@check("Sandbox.create_snapshot", "Sandbox.create")
async def keep_files_only(run: Run) -> None:
    run.takes(run.Sandbox._cls_create_snapshot, "mode")
    sb, pid, boot_id = await with_traces(run)
    kept = await go(sb.create_snapshot(mode="filesystem"))
    await expect_all_there(sb, pid, boot_id)
    made = await run.create(template=kept.snapshot_id)
    await expect_rebooted(made, pid, boot_id)
    await go(run.Sandbox.delete_snapshot(kept.snapshot_id))
    await go(made.kill())
    await go(sb.kill())


@check("Sandbox.create_snapshot", "Sandbox.delete_snapshot")
async def snapshots_that_cannot_be(run: Run) -> None:
    await run.raises("NotFoundException", lambda: run.Sandbox.create_snapshot(NOBODY))
    assert await go(run.Sandbox.delete_snapshot("no-such-snapshot")) is False
    await run.raises("SandboxException", lambda: run.sb.create_snapshot(name="not a name"), "not a valid")


@check("Sandbox.fork")
async def fork_what_runs(run: Run) -> None:
    sb, pid, boot_id = await with_traces(run)
    forks = await go(sb.fork(timeout=60, count=2)) + await go(run.Sandbox.fork(sb.sandbox_id, timeout=60))
    run.made += forks
    assert len({sb.sandbox_id, *(one.sandbox_id for one in forks)}) == 4
    for number, one in enumerate(forks):
        await expect_all_there(one, pid, boot_id)
        await go(one.files.write("/home/user/kept", f"changed in {number}"))
    await expect_all_there(sb, pid, boot_id)
    for number, one in enumerate(forks):
        assert await go(one.files.read("/home/user/kept")) == f"changed in {number}"
        assert (await go(one.commands.run("echo $E2B_SANDBOX_ID"))).stdout.strip() == one.sandbox_id
        await go(one.kill())
    await go(sb.kill())


@check("Sandbox.fork")
async def forks_that_cannot_be(run: Run) -> None:
    await run.raises("NotFoundException", lambda: run.Sandbox.fork(NOBODY))
    await run.raises("SandboxException", lambda: run.sb.fork(count=21), "count", "20")
    sb = await run.create()
    await go(sb.pause())
    await run.raises("SandboxException", sb.fork, "409")
    await go(sb.kill())
