"""`atoll snapshot`: sandboxes as they were, kept to be started again."""

from __future__ import annotations

import itertools

import click

from atoll._errors import NotFound
from atoll._sync.sandbox import Sandbox
from atoll._sync.snapshots import Snapshot
from atoll.cli.context import FAILED, Settings, json_option
from atoll.cli.output import age, clean, print_fields, print_json, print_table, size

EPILOG = """\b
Examples:
  atoll snapshot create ID before-upgrade
  atoll sandbox create --template before-upgrade
  atoll sandbox rollback ID before-upgrade
  atoll snapshot diff before-upgrade after-upgrade

A SNAPSHOT is named by its id or its name.
"""

MARKS = {"added": "+", "removed": "-", "changed": "~"}


@click.group(epilog=EPILOG)
def snapshot() -> None:
    """Sandboxes as they were, with their memory: start from them, roll back to them, compare them."""


@snapshot.command(
    epilog="\b\nExamples:\n  atoll snapshot create ID\n  atoll snapshot create ID team/box:v1 --files-only"
)
@click.argument("id")
@click.argument("name", required=False)
@click.option("--files-only", is_flag=True, help="Without memory and processes; what starts from it boots.")
@json_option
@click.pass_obj
def create(settings: Settings, id: str, name: str | None, files_only: bool, as_json: bool) -> None:
    """Keep the sandbox ID as it is now, and print the snapshot's id. ID goes on.

    A NAME that another snapshot has moves to this one.
    """
    made = Sandbox.get(id, config=settings.config()).snapshot(name, keep_memory=not files_only)
    if as_json:
        print_json(made.info.raw)
    else:
        click.echo(made.id)


@snapshot.command("list", epilog="\b\nExample:\n  atoll snapshot list --sandbox ID")
@click.option("--sandbox", metavar="ID", help="Only those taken of this sandbox.")
@click.option("--name", help="Only the one with this name.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--quiet", "-q", is_flag=True, help="Ids only.")
@json_option
@click.pass_obj
def list_(settings: Settings, sandbox: str | None, name: str | None, limit: int, quiet: bool, as_json: bool) -> None:
    """Snapshots of your project, newest first."""
    listing = Snapshot.list(sandbox_id=sandbox, name=name, page_size=min(limit, 100), config=settings.config())
    found = list(itertools.islice(listing, limit))
    if as_json:
        print_json([one.info.raw for one in found])
    elif quiet:
        for one in found:
            click.echo(one.id)
    else:
        rows = [
            (one.id, one.name, one.kind, size(one.size_bytes), age(one.created_at), one.sandbox_id, one.parent_id)
            for one in found
        ]
        print_table(("ID", "NAME", "KIND", "SIZE", "AGE", "SANDBOX", "PARENT"), rows)


@snapshot.command(epilog="\b\nExample:\n  atoll snapshot info before-upgrade")
@click.argument("snapshot")
@json_option
@click.pass_obj
def info(settings: Settings, snapshot: str, as_json: bool) -> None:
    """One snapshot."""
    found = Snapshot.get(snapshot, config=settings.config()).info
    if as_json:
        print_json(found.raw)
        return
    print_fields(
        [
            ("id", found.id),
            ("name", found.name),
            ("kind", found.kind),
            ("state", found.state),
            ("sandbox", found.sandbox_id),
            ("parent", found.parent_id),
            ("template", found.template),
            ("runtime", found.runtime),
            ("size", size(found.size_bytes)),
            ("created", found.created_at),
            ("stood still", None if found.stopped_ms is None else f"{found.stopped_ms:g} ms"),
        ]
    )


@snapshot.command(epilog="\b\nExample:\n  atoll snapshot delete before-upgrade")
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...")
@json_option
@click.pass_obj
def delete(settings: Settings, snapshots: tuple[str, ...], as_json: bool) -> int:
    """Forget snapshots. What was started from them goes on. Fails when one of them is not there."""
    config = settings.config()
    outcomes: dict[str, str] = {}
    for name in snapshots:
        try:
            outcomes[name] = "deleted" if Snapshot.get(name, config=config).delete() else "not found"
        except NotFound:
            outcomes[name] = "not found"
        if not as_json:
            click.echo(f"{clean(name)}: {outcomes[name]}", err=outcomes[name] != "deleted")
    if as_json:
        print_json(outcomes)
    return FAILED if "not found" in outcomes.values() else 0


@snapshot.command(epilog="\b\nExamples:\n  atoll snapshot diff before after\n  atoll snapshot diff after")
@click.argument("snapshots", nargs=-1, required=True, metavar="[EARLIER] LATER")
@click.option("--limit", type=click.IntRange(1, 10_000), help="At most so many  [default: all, up to 10000]")
@json_option
@click.pass_obj
def diff(settings: Settings, snapshots: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """Files of LATER that differ from EARLIER's, or from the template's: + added, - removed, ~ changed."""
    if len(snapshots) > 2:
        raise click.UsageError("give one or two snapshots")
    earlier = snapshots[0] if len(snapshots) == 2 else None
    found = Snapshot.get(snapshots[-1], config=settings.config()).diff(earlier, limit=limit)
    if as_json:
        print_json(found)
        return
    for one in found:
        path = clean(one.path.replace("\n", "\r"))
        click.echo(
            f"{MARKS.get(one.change, '?')} {path}" + ("" if one.change == "removed" else f"  {size(one.size_bytes)}")
        )
