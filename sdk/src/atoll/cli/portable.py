"""`atoll snapshot export` and `atoll snapshot import`: snapshots as encrypted files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atoll._sync.snapshots import Snapshot
from atoll.cli.context import Settings, json_option
from atoll.cli.output import print_json, size

_FILE = click.Path(dir_okay=False, path_type=Path)


def _passphrase_option(function: Any) -> Any:
    return click.option(
        "--passphrase-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The passphrase is the first line of this file. Without it, it is asked for.",
    )(function)


@click.command(
    "export", epilog="\b\nExample:\n  atoll snapshot export before-upgrade --output box.atoll --passphrase-file key.txt"
)
@click.argument("snapshot")
@click.option("--output", "-o", type=_FILE, required=True, help="The file to write.")
@_passphrase_option
@click.option("--force", is_flag=True, help="Take the place of a file that is there.")
@json_option
@click.pass_obj
def export(
    settings: Settings, snapshot: str, output: Path, passphrase_file: Path | None, force: bool, as_json: bool
) -> None:
    """Write SNAPSHOT with its template to one encrypted file.

    It holds all that the sandbox's memory and files held, secrets included. `age -d` can decrypt it, too.
    """
    if output.exists() and not force:
        raise click.UsageError(f"{output} is there already; --force takes its place")
    found = Snapshot.get(snapshot, config=settings.config())
    written = found.export(output, passphrase=_passphrase(passphrase_file, confirm=True))
    if as_json:
        print_json({"id": found.id, "file": str(output), "size_bytes": written})
    else:
        click.echo(f"{output}: {size(written)}")


@click.command("import", epilog="\b\nExample:\n  atoll snapshot import box.atoll --name box --passphrase-file key.txt")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Its name here; one that is taken moves to this one.  [default: none]")
@_passphrase_option
@json_option
@click.pass_obj
def import_(settings: Settings, file: Path, name: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Store the snapshot in FILE, and print its id.

    The daemon takes it only from machines that it trusts: from itself, and from those that its setting archive_trust
    names. Engine and CPU must be able to run it.
    """
    passphrase = _passphrase(passphrase_file, confirm=False)
    made = Snapshot.import_(file, passphrase=passphrase, name=name, config=settings.config())
    if as_json:
        print_json(made.info.raw)
    else:
        click.echo(made.id)


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    """From the file's first line, or from the person at the terminal. Not from the command line: others see that."""
    if file is None:
        text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
        return text
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise click.UsageError(f"{file} has no passphrase in its first line")
    return lines[0]
