"""`atoll serve`, `runtime list`, `version`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from atoll._errors import AtollError
from atoll._sync.daemon import Daemon
from atoll._version import __version__
from atoll.cli.context import Settings, json_option
from atoll.cli.output import print_json, print_table


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Start the daemon in the foreground, with the arguments of `atolld serve`."""
    program = find_daemon()
    if program is None:
        raise click.ClickException(
            "the daemon is not installed here; install the package 'atolld' on the machine that shall run sandboxes "
            "(Linux, root), or point ATOLL_API_URL to one that does"
        )
    os.execv(program, [program, "serve", *arguments])


@click.group()
def runtime() -> None:
    """What isolates sandboxes."""


@runtime.command("list")
@json_option
@click.pass_obj
def list_runtimes(settings: Settings, as_json: bool) -> None:
    """Runtimes of the daemon: what each isolates with, or why it cannot be used."""
    found = Daemon(settings.config()).runtimes()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item.get("name"),
            bool(item.get("usable")),
            item.get("version"),
            item.get("isolation") if item.get("usable") else item.get("reason"),
        )
        for item in found
    ]
    print_table(("NAME", "USABLE", "VERSION", "WHAT ISOLATES, OR WHY NOT"), rows)


@click.command()
@json_option
@click.pass_obj
def version(settings: Settings, as_json: bool) -> None:
    """Versions of this program and of the daemon."""
    config = settings.config()
    try:
        daemon = str(Daemon(config).version().get("version"))
        problem = None
    except AtollError as error:
        daemon, problem = None, error.message
    if as_json:
        print_json({"atoll": __version__, "daemon": daemon, "api_url": config.api_url, "problem": problem})
    else:
        click.echo(f"atoll {__version__}, daemon {daemon or f'unknown: {problem}'}")


def find_daemon() -> str | None:
    """The program `atolld`: the one beside this interpreter, else the one in PATH; None when there is none."""
    beside = Path(sys.executable).with_name("atolld")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("atolld")
