"""`atoll sandbox cp`: files and directories, both ways."""

from __future__ import annotations

import os
import posixpath
import sys
import time
from pathlib import Path

import click

from atoll._errors import NotFound
from atoll._models import FileInfo
from atoll._sync.sandbox import Sandbox
from atoll.cli import archive
from atoll.cli.context import FAILED, Settings, json_option
from atoll.cli.output import note, print_json, size

EPILOG = """\b
One of the two paths is in a sandbox, written ID:PATH; relative ones begin at the user's home. A directory is copied
with all that is in it. Where the target is a directory that exists, the source is put into it.

\b
Examples:
  atoll sandbox cp data.csv ID:/home/user/data.csv
  atoll sandbox cp ID:results ./results
"""


@click.command(epilog=EPILOG)
@click.argument("source")
@click.argument("target")
@click.option("--user", "-u", metavar="NAME", help="The sandbox's user who owns what is made  [default: user]")
@json_option
@click.pass_obj
def cp(settings: Settings, source: str, target: str, user: str | None, as_json: bool) -> int:
    """Copy SOURCE to TARGET, into a sandbox or out of it."""
    from_id, from_path = split(source)
    to_id, to_path = split(target)
    if (from_id is None) == (to_id is None):
        raise click.UsageError("one of the two paths must be in a sandbox: ID:PATH")
    began = time.monotonic()
    skipped: list[str] = []
    progress = Progress(quiet=as_json)
    if to_id is not None:
        copied = _into(Sandbox.connect(to_id, config=settings.config()), Path(from_path), to_path, user, progress)
    else:
        assert from_id is not None
        sandbox = Sandbox.connect(from_id, config=settings.config())
        copied = _out_of(sandbox, from_path, Path(to_path), user, progress, skipped)
    progress.done()
    for name in skipped:
        note(f"left out: {name}")
    if as_json:
        print_json({"bytes": copied, "seconds": round(time.monotonic() - began, 3), "skipped": skipped})
    return FAILED if skipped else 0


def split(text: str) -> tuple[str | None, str]:
    """Sandbox id and path of an argument; no id for a path of this machine.

    What begins with `/` or `.` is a path of this machine, whatever comes later in it.
    """
    id, colon, path = text.partition(":")
    if not colon or not id.isalnum():
        return None, text
    return id, path or "."


def _into(sandbox: Sandbox, source: Path, target: str, user: str | None, progress: Progress) -> int:
    existing = _stat(sandbox, target, user)
    if existing is not None and existing.type == "dir":
        target = posixpath.join(existing.path, source.resolve().name)
    if source.is_dir():
        return archive.send(sandbox, source, target, user, progress.report)
    return sandbox.files.upload(source, target, user=user, on_progress=progress.report)


def _out_of(
    sandbox: Sandbox, source: str, target: Path, user: str | None, progress: Progress, skipped: list[str]
) -> int:
    found = sandbox.files.stat(source, user=user)
    if target.is_dir():
        # The name comes from the sandbox; it must not lead anywhere else.
        name = posixpath.basename(found.path.rstrip("/"))
        if name in ("", ".", "..") or os.sep in name:
            raise click.UsageError(f"{source!r} has no name of its own; give the target's name")
        target = target / name
    if found.type == "dir":
        return archive.receive(sandbox, found.path, target, user, progress.report, skipped)
    return sandbox.files.download(found.path, target, user=user, on_progress=progress.report)


def _stat(sandbox: Sandbox, path: str, user: str | None) -> FileInfo | None:
    try:
        return sandbox.files.stat(path, user=user)
    except NotFound:
        # Also when the sandbox is gone: the copy itself says so right after this.
        return None


class Progress:
    """A line that is overwritten, on a terminal only."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._began = time.monotonic()
        self._last = 0.0

    def report(self, so_far: int, total: int | None) -> None:
        """Show bytes so far and, where it is known, the total; at most ten times a second."""
        now = time.monotonic()
        if not self._shown or (now - self._last < 0.1 and so_far != total):
            return
        self._last = now
        of = f" of {size(total)}" if total else ""
        speed = size(so_far / max(now - self._began, 0.001))
        click.echo(f"\r\x1b[K{size(so_far)}{of}, {speed}/s", nl=False, err=True)

    def done(self) -> None:
        """End the line."""
        if self._shown and self._last:
            click.echo("", err=True)
