"""`atoll image`: images of registries and archives, to start sandboxes from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from atoll._sync.daemon import Daemon
from atoll._sync.images import Images
from atoll.cli.context import FAILED, Settings, json_option
from atoll.cli.cp import Progress
from atoll.cli.output import clean, note, print_json, print_table, size

EPILOG = """\b
Examples:
  atoll image pull debian:12
  atoll sandbox create --template debian:12
  docker save app | gzip > app.tar.gz; atoll image import app.tar.gz
  atoll image export debian:12 debian.tar

An IMAGE is named as registries name it; without a registry it is Docker Hub's.
"""


@click.group(epilog=EPILOG)
def image() -> None:
    """Images of registries and archives, to start sandboxes from."""


@image.command(
    epilog="\b\nExamples:\n  atoll image pull debian:12\n"
    "  pass registry | atoll image pull registry.example/owner/app:1 --username me --password-stdin"
)
@click.argument("image")
@click.option("--username", "-u", metavar="NAME", help="For a registry that wants one.")
@click.option("--password-stdin", is_flag=True, help="Read the password, or a token, from standard input.")
@click.option("--insecure", is_flag=True, help="Over plain HTTP.")
@json_option
@click.pass_obj
def pull(
    settings: Settings, image: str, username: str | None, password_stdin: bool, insecure: bool, as_json: bool
) -> None:
    """Fetch IMAGE as far as it is not there, and print its name. Interrupted, the next pull goes on."""
    if (username is not None) != password_stdin:
        raise click.UsageError("--username and --password-stdin belong together")
    password = _first_line() if password_stdin else None
    shown = PullProgress(quiet=as_json)
    try:
        pulled = _images(settings).pull(
            image, username=username, password=password, insecure=insecure, on_step=shown.step
        )
    finally:
        shown.done()
    if as_json:
        print_json(pulled)
    else:
        click.echo(clean(str(pulled.get("name"))))


@image.command("list", epilog="\b\nExample:\n  atoll image list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """Images of your project."""
    found = _images(settings).list()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.get("name"),
            str(one.get("digest")).removeprefix("sha256:")[:12],
            one.get("platform"),
            size(one.get("size_bytes") or 0),
            one.get("pulled_at"),
        )
        for one in found
    ]
    print_table(("NAME", "DIGEST", "PLATFORM", "SIZE", "PULLED"), rows)


@image.command("import", epilog="\b\nExamples:\n  atoll image import app.tar\n  atoll image import layout.tar app:1")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("name", required=False)
@json_option
@click.pass_obj
def import_(settings: Settings, file: str, name: str | None, as_json: bool) -> None:
    """Store the image in FILE (`docker save`, or a tar of an OCI layout; gzip and zstd too) as NAME, and print that."""
    progress = Progress(quiet=as_json)
    stored = _images(settings).import_(file, name, on_progress=lambda sent: progress.report(sent, None))
    progress.done()
    if as_json:
        print_json(stored)
    else:
        click.echo(clean(str(stored.get("name"))))


@image.command(epilog="\b\nExamples:\n  atoll image export debian:12 debian.tar\n  atoll image export base base.tar")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False))
@json_option
@click.pass_obj
def export(settings: Settings, image: str, file: str, as_json: bool) -> None:
    """Write IMAGE, or a template, to FILE, for `import` and `docker load`."""
    progress = Progress(quiet=as_json)
    written = _images(settings).export(image, file, on_progress=lambda got: progress.report(got, None))
    progress.done()
    if as_json:
        print_json({"file": file, "bytes": written})


@image.command(epilog="\b\nExample:\n  atoll image delete debian:12")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@json_option
@click.pass_obj
def delete(settings: Settings, images: tuple[str, ...], as_json: bool) -> int:
    """Forget images. What was started from them goes on. Fails when one of them is not there."""
    there = _images(settings)
    outcomes = {name: "deleted" if there.delete(name) else "not found" for name in images}
    for name, outcome in outcomes.items():
        if not as_json:
            click.echo(f"{name}: {outcome}", err=outcome != "deleted")
    if as_json:
        print_json(outcomes)
    return FAILED if "not found" in outcomes.values() else 0


@image.command(epilog="\b\nExample:\n  atoll image prune")
@json_option
@click.pass_obj
def prune(settings: Settings, as_json: bool) -> None:
    """Remove layers that no image, template, sandbox or snapshot needs any more."""
    removed = _images(settings).prune()
    if as_json:
        print_json({"layers": removed})
    else:
        click.echo(f"{len(removed)} layer{'' if len(removed) == 1 else 's'} removed")


class PullProgress:
    """Where a pull stands: one line that is overwritten on a terminal, a line for each layer elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = Progress(quiet=quiet)
        self._live = not quiet and sys.stderr.isatty()
        self._layers: dict[str, tuple[int, int]] = {}
        self._told: set[str] = set()

    def step(self, step: Mapping[str, Any]) -> None:
        """Show one step."""
        layer = str(step.get("layer") or "")
        if layer:
            self._layers[layer] = (int(step.get("bytes") or 0), int(step.get("total_bytes") or 0))
        if self._live:
            if self._layers:
                sofar, total = (sum(column) for column in zip(*self._layers.values(), strict=True))
                self._bar.report(sofar, total)
        elif not self._quiet and step.get("phase") in ("unpack", "present") and layer not in self._told:
            self._told.add(layer)
            word = "unpacking" if step["phase"] == "unpack" else "already there"
            note(f"{layer.removeprefix('sha256:')[:12]}: {word} ({size(self._layers[layer][1])})")

    def done(self) -> None:
        """End the line."""
        self._bar.done()


def _images(settings: Settings) -> Images:
    return Daemon(settings.config()).images


def _first_line() -> str:
    with open(sys.stdin.fileno(), encoding="utf-8", closefd=False) as stdin:
        return stdin.readline().rstrip("\r\n")
