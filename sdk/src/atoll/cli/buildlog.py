"""The log of a build on a terminal: steps in bold, what they say in plain, faults in red."""

from __future__ import annotations

import sys

import click

from atoll._build_models import BuildLog
from atoll._errors import BuildError
from atoll.cli.output import clean, size

_COLOURS = {"error": "red", "warn": "yellow"}


class LogPrinter:
    """Prints lines as they come, on standard error unless they are the result. quiet: none of them."""

    def __init__(self, *, quiet: bool = False, is_result: bool = False) -> None:
        self._quiet = quiet
        self._err = not is_result
        self._uploading = False

    def line(self, entry: BuildLog) -> None:
        """One line of the log."""
        if self._quiet:
            return
        self.done()
        text = clean(entry.message)
        if entry.level in _COLOURS:
            text = click.style(text, fg=_COLOURS[entry.level])
        elif text.startswith(("[", "CACHED [")):
            text = click.style(text, bold=True)
        elif entry.level == "debug":
            text = click.style(text, dim=True)
        click.echo(text, err=self._err)

    def upload(self, progress: tuple[int, int]) -> None:
        """How much of the files is sent; on terminals only."""
        if self._quiet or not sys.stderr.isatty():
            return
        self._uploading = True
        sent, total = progress
        click.echo(f"\r\x1b[Kuploading {size(sent)} of {size(total)}", nl=False, err=True)

    def done(self) -> None:
        """End a line that was still being rewritten."""
        if self._uploading:
            self._uploading = False
            click.echo(err=True)

    def failure(self, error: BuildError) -> None:
        """The last lines of the step that failed, where they were not printed as they came."""
        if self._quiet:
            for line in error.last_lines:
                click.echo(f"  {clean(line)}", err=True)
