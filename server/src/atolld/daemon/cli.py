"""`atolld`: the daemon's own command line. What users do with sandboxes is the command `atoll`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import pwd
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from atolld.daemon import background
from atolld.daemon.console import say
from atolld.daemon.first_key import key_file, write_client_config
from atolld.daemon.settings import Settings, load
from atolld.foundation.errors import AtollError
from atolld.foundation.units import format_seconds

Run = Callable[[Settings, argparse.Namespace], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 failed with a sentence on stderr, 2 used wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load(overrides=_overrides(arguments))
        return int(arguments.run(settings, arguments) or 0)
    except AtollError as error:
        say(f"atolld: {error.message}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    given = {"bind_port": "port", "domain": "domain", "tls": "tls"}
    return {"instance": arguments.instance} | {
        setting: getattr(arguments, option, None) for setting, option in given.items()
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="atolld", description="Atoll's daemon. Settings: docs/configuration.md.")
    parser.add_argument("--version", action="version", version=f"atolld {version('atolld')}")
    parser.add_argument("--instance", help="name of the instance (setting `instance`)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run in the foreground until SIGTERM")
    serve.add_argument("--port", type=int, help="port to listen on (setting `bind_port`)")
    serve.add_argument("--domain", help="domain that leads here (setting `domain`)")
    serve.add_argument("--tls", choices=("off", "auto", "files"), help="serve TLS too (setting `tls`)")
    serve.add_argument("--log-file", type=Path, help="log there, bounded in size, instead of to stderr")
    serve.set_defaults(run=_later("serve"))

    commands.add_parser("start", help="start in the background and wait until it answers").set_defaults(run=_start)

    stop = commands.add_parser("stop", help="stop; sandboxes go on and are found by the next start")
    stop.add_argument("--all", action="store_true", help="end every sandbox and leave nothing of ours on this machine")
    stop.set_defaults(run=_stop)

    status = commands.add_parser("status", help="whether it runs, and how it is")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)

    key = commands.add_parser("key", help="API keys, on the database itself").add_subparsers(required=True)
    create = key.add_parser("create", help="make a key and print its secret, once")
    create.add_argument("name")
    create.set_defaults(run=_later("key_create"))
    listing = key.add_parser("list", help="all keys of the default project")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_later("key_list"))
    revoke = key.add_parser("revoke", help="end a key")
    revoke.add_argument("id")
    revoke.set_defaults(run=_later("key_revoke"))

    check = commands.add_parser("doctor", help="check this machine and say what to do about each fault")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_later("check"))

    ca = commands.add_parser("ca", help="the authority that `tls` auto makes: where it lies and how to trust it")
    ca.add_argument("--domain", help="the domain (setting `domain`)")
    ca.set_defaults(run=_later("ca"))

    commands.add_parser(
        "archive-key", help="print the public key that signs this machine's archives of snapshots"
    ).set_defaults(run=_later("archive_key"))

    openapi = commands.add_parser("openapi", help="print an API's specification")
    openapi.add_argument("dialect", nargs="?", choices=("native", "e2b"), default="native")
    openapi.set_defaults(run=_later("openapi"))
    return parser


def _later(name: str) -> Run:
    """The command of that name in `atolld.daemon.commands`, which takes a second to read in."""

    def run(settings: Settings, arguments: argparse.Namespace) -> int | None:
        # All that is made meanwhile stays; looking through it again and again is a tenth of the time.
        gc.disable()
        try:
            from atolld.daemon import commands
        finally:
            gc.enable()
        command: Run = getattr(commands, name)
        return command(settings, arguments)

    return run


def _start(settings: Settings, _arguments: argparse.Namespace) -> None:
    if background.running(settings) is not None and background.health(settings) is not None:
        say(f"atolld runs already: {settings.url}")
    else:
        took_s = background.start(settings)
        say(f"atolld started in {format_seconds(took_s)}: {settings.url}")
    _tell_client(settings)


def _tell_client(settings: Settings) -> None:
    home, owner = _invoking_user()
    secret = key_file(settings.state).read_text(encoding="ascii").strip()
    config = home / ".config" / "atoll" / "config.json"
    if not write_client_config(config, settings.url, secret, owner):
        say(f"{config} names another daemon and was left alone; this one's key is in {key_file(settings.state)}")


def _invoking_user() -> tuple[Path, tuple[int, int] | None]:
    """Home of the person at the keyboard, through sudo too, and whom files there must belong to."""
    name = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and name and name != "root":
        person = pwd.getpwnam(name)
        return Path(person.pw_dir), (person.pw_uid, person.pw_gid)
    return Path.home(), None


def _stop(settings: Settings, arguments: argparse.Namespace) -> None:
    if background.stop(settings, arguments.all):
        say("atolld stopped" + ("; every sandbox is ended and nothing is left" if arguments.all else ""))
    elif arguments.all:
        _later("remove_leftovers")(settings, arguments)
        say("atolld did not run; what an earlier one left is removed")
    else:
        say("atolld does not run")


def _status(settings: Settings, arguments: argparse.Namespace) -> int:
    process = background.running(settings)
    told = background.health(settings) if process is not None else None
    answer = {
        "running": process is not None,
        "pid": process.pid if process else None,
        "url": settings.url,
        "health": told,
        "log": str(background.log_file(settings)),
    }
    if arguments.json:
        say(json.dumps(answer))
    elif process is None:
        say("atolld does not run; start it with `atolld start`")
    elif told is None:
        say(f"atolld (process {process.pid}) runs but does not answer on {settings.url}")
    else:
        uptime_s = told.get("uptime_s")
        lasting = format_seconds(float(uptime_s)) if isinstance(uptime_s, int | float) else "?"
        say(f"atolld (process {process.pid}) serves {settings.url} since {lasting}, {told.get('sandboxes')} sandboxes")
    return 0 if told is not None else 1
