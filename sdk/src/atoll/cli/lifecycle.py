"""`atoll sandbox pause|resume|freeze|fork|rollback|checkpoints`: stop, copy and rewind."""

from __future__ import annotations

from collections.abc import Callable

import click

from atoll._config import Config
from atoll._errors import AtollError
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import FAILED, Settings, json_option
from atoll.cli.output import clean, note, print_json, size


@click.command(epilog="\b\nExamples:\n  atoll sandbox pause ID\n  atoll sandbox pause --files-only ID1 ID2")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--files-only", is_flag=True, help="End its processes and keep its files; it boots when it is resumed.")
@json_option
@click.pass_obj
def pause(settings: Settings, ids: tuple[str, ...], files_only: bool, as_json: bool) -> int:
    """Save sandboxes to disk and free their memory. A paused one keeps its id, and its timeout stands still."""

    def one(sandbox: Sandbox) -> str:
        return "paused" if sandbox.pause(keep_memory=not files_only) else "paused already"

    return _each(ids, one, settings.config(), as_json)


@click.command(epilog="\b\nExamples:\n  atoll sandbox resume ID\n  atoll sandbox resume ID --timeout 3600")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="[default: as it was made with]")
@click.option("--files-only", is_flag=True, help="Boot it from its files although its memory was saved.")
@json_option
@click.pass_obj
def resume(settings: Settings, ids: tuple[str, ...], timeout: int | None, files_only: bool, as_json: bool) -> int:
    """Bring sandboxes back from a pause or out of a freeze. `exec`, `shell` and `cp` do it by themselves."""

    def one(sandbox: Sandbox) -> str:
        return "resumed" if sandbox.resume(timeout_s=timeout, keep_memory=not files_only) else "running already"

    return _each(ids, one, settings.config(), as_json)


@click.command(epilog="\b\nExample:\n  atoll sandbox freeze ID")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@click.pass_obj
def freeze(settings: Settings, ids: tuple[str, ...], as_json: bool) -> int:
    """Stop the processes of sandboxes where they are. The next request to one wakes it; its memory stays taken."""

    def one(sandbox: Sandbox) -> str:
        sandbox.freeze()
        return "frozen"

    return _each(ids, one, settings.config(), as_json)


@click.command(
    epilog="\b\nExamples:\n  atoll sandbox fork ID\n  for id in $(atoll sandbox fork ID --count 3); do ...; done"
)
@click.argument("id")
@click.option("--count", type=click.IntRange(1, 100), default=1, show_default=True, help="How many.")
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="[default: as ID was made with]")
@click.option("--partial", is_flag=True, help="Keep those that came up when some did not.")
@json_option
@click.pass_obj
def fork(settings: Settings, id: str, count: int, timeout: int | None, partial: bool, as_json: bool) -> int:
    """Make new sandboxes with the memory and files that ID has now, and print their ids. ID goes on."""
    made = Sandbox.get(id, config=settings.config()).fork(count, timeout_s=timeout, partial=partial)
    if as_json:
        print_json([sibling.created.raw for sibling in made])
    else:
        for sibling in made:
            click.echo(sibling.id)
    if len(made) < count:
        note(f"{count - len(made)} of {count} did not come up")
    return 0 if len(made) == count else FAILED


@click.command(epilog="\b\nExample:\n  atoll sandbox rollback ID before-upgrade")
@click.argument("id")
@click.argument("snapshot")
@json_option
@click.pass_obj
def rollback(settings: Settings, id: str, snapshot: str, as_json: bool) -> None:
    """Put ID back to SNAPSHOT (a name or id) of its own tree: same id, the memory and files of then.

    What it did since is lost, unless it is kept in another snapshot.
    """
    info = Sandbox.get(id, config=settings.config()).rollback(snapshot)
    if as_json:
        print_json(info.raw)
    else:
        click.echo(f"{clean(id)}: rolled back to {clean(snapshot)}")


@click.command(epilog="\b\nExample:\n  atoll sandbox checkpoints ID")
@click.argument("id")
@json_option
@click.pass_obj
def checkpoints(settings: Settings, id: str, as_json: bool) -> None:
    """The tree of checkpoints that ID is in, and where it stands."""
    tree = Sandbox.get(id, config=settings.config()).checkpoints()
    if as_json:
        print_json({"head_id": tree.head_id, "items": [one.info.raw for one in tree]})
        return
    click.echo(clean(str(tree)) if len(tree) else "no checkpoints; make one with: atoll snapshot create ID")
    if len(tree):
        note(f"{len(tree)} checkpoints, {size(sum(one.size_bytes for one in tree))}")


def _each(ids: tuple[str, ...], do: Callable[[Sandbox], str], config: Config, as_json: bool) -> int:
    outcomes: dict[str, str] = {}
    failed = False
    for id in ids:
        try:
            outcomes[id] = do(Sandbox.get(id, config=config))
        except AtollError as error:
            failed = True
            outcomes[id] = f"{error.message} [{error.code}]"
            if not as_json:
                click.echo(f"{clean(id)}: {clean(outcomes[id])}", err=True)
        else:
            if not as_json:
                click.echo(f"{clean(id)}: {outcomes[id]}")
    if as_json:
        print_json(outcomes)
    return FAILED if failed else 0
