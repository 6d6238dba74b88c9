"""`atolld`: the daemon's own command line. What users do with sandboxes is the command `atoll`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TextIO, TypeVar

import uvloop

from atolld.api.app import create_app
from atolld.api.e2b.app import create_e2b_app
from atolld.control.keys import Keys
from atolld.control.projects import Projects
from atolld.daemon import background, certificates, doctor, logs
from atolld.daemon.app import Daemon
from atolld.daemon.first_key import key_file, write_client_config
from atolld.daemon.nodes import probe_runtimes, templates_of
from atolld.daemon.settings import Settings, load
from atolld.foundation.clock import SystemClock
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.foundation.ids import KeyId
from atolld.foundation.units import MIB, format_seconds
from atolld.host.archivekeys import open_keys, public_key_text
from atolld.storage.database import open_database
from atolld.storage.keys import SqlKeys
from atolld.storage.projects import SqlProjects

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 failed with a sentence on stderr, 2 used wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load(overrides=_overrides(arguments))
        return int(arguments.run(settings, arguments) or 0)
    except AtollError as error:
        _say(f"atolld: {error.message}", sys.stderr)
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
    serve.set_defaults(run=_serve)

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
    create.set_defaults(run=_key_create)
    listing = key.add_parser("list", help="all keys of the default project")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_key_list)
    revoke = key.add_parser("revoke", help="end a key")
    revoke.add_argument("id")
    revoke.set_defaults(run=_key_revoke)

    check = commands.add_parser("doctor", help="check this machine and say what to do about each fault")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_doctor)

    ca = commands.add_parser("ca", help="the authority that `tls` auto makes: where it lies and how to trust it")
    ca.add_argument("--domain", help="the domain (setting `domain`)")
    ca.set_defaults(run=_ca)

    commands.add_parser(
        "archive-key", help="print the public key that signs this machine's archives of snapshots"
    ).set_defaults(run=_archive_key)

    openapi = commands.add_parser("openapi", help="print an API's specification")
    openapi.add_argument("dialect", nargs="?", choices=("native", "e2b"), default="native")
    openapi.set_defaults(run=_openapi)
    return parser


def _serve(settings: Settings, arguments: argparse.Namespace) -> None:
    handler = logs.to_file(arguments.log_file, settings.log_max_mib * MIB) if arguments.log_file else None
    logs.configure(settings.log_format, settings.log_level, handler)

    async def run() -> None:
        daemon = Daemon(settings)
        daemon.handle_signals()
        await daemon.run()

    uvloop.run(run())


def _start(settings: Settings, _arguments: argparse.Namespace) -> None:
    if background.running(settings) is not None and background.health(settings) is not None:
        _say(f"atolld runs already: {settings.url}")
    else:
        took_s = background.start(settings)
        _say(f"atolld started in {format_seconds(took_s)}: {settings.url}")
    _tell_client(settings)


def _tell_client(settings: Settings) -> None:
    home, owner = _invoking_user()
    secret = key_file(settings.state).read_text(encoding="ascii").strip()
    config = home / ".config" / "atoll" / "config.json"
    if not write_client_config(config, settings.url, secret, owner):
        _say(f"{config} names another daemon and was left alone; this one's key is in {key_file(settings.state)}")


def _invoking_user() -> tuple[Path, tuple[int, int] | None]:
    """Home of the person at the keyboard, through sudo too, and whom files there must belong to."""
    name = os.environ.get("SUDO_USER")
    if os.geteuid() == 0 and name and name != "root":
        person = pwd.getpwnam(name)
        return Path(person.pw_dir), (person.pw_uid, person.pw_gid)
    return Path.home(), None


def _stop(settings: Settings, arguments: argparse.Namespace) -> None:
    if background.stop(settings, arguments.all):
        _say("atolld stopped" + ("; every sandbox is ended and nothing is left" if arguments.all else ""))
    elif arguments.all:
        asyncio.run(_remove_leftovers(settings))
        _say("atolld did not run; what an earlier one left is removed")
    else:
        _say("atolld does not run")


async def _remove_leftovers(settings: Settings) -> None:
    logs.configure("auto", "warning")
    daemon = Daemon(settings)
    daemon.stop(end_all=True)
    await daemon.run()


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
        _say(json.dumps(answer))
    elif process is None:
        _say("atolld does not run; start it with `atolld start`")
    elif told is None:
        _say(f"atolld (process {process.pid}) runs but does not answer on {settings.url}")
    else:
        uptime_s = told.get("uptime_s")
        lasting = format_seconds(float(uptime_s)) if isinstance(uptime_s, int | float) else "?"
        _say(f"atolld (process {process.pid}) serves {settings.url} since {lasting}, {told.get('sandboxes')} sandboxes")
    return 0 if told is not None else 1


def _key_create(settings: Settings, arguments: argparse.Namespace) -> None:
    async def work(keys: Keys, projects: Projects) -> str:
        project = await projects.ensure_default()
        return (await keys.create(project.id, arguments.name))[1]

    _say(_on_database(settings, work))


def _key_list(settings: Settings, arguments: argparse.Namespace) -> None:
    async def work(keys: Keys, projects: Projects) -> list[dict[str, object]]:
        project = await projects.ensure_default()
        return [asdict(key) for key in await keys.list(project.id)]

    found = _on_database(settings, work)
    if arguments.json:
        _say(json.dumps(found))
        return
    for key in found:
        state = "revoked" if key["revoked_at"] else "in use"
        _say(f"{key['id']}  {key['prefix']}...  {state:8} {key['name']}")


def _key_revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    async def work(keys: Keys, projects: Projects) -> None:
        project = await projects.ensure_default()
        await keys.revoke(project.id, KeyId(arguments.id))

    _on_database(settings, work)
    _say("revoked; a running daemon refuses it within 2 s")


def _doctor(settings: Settings, arguments: argparse.Namespace) -> int:
    logs.configure("auto", "error")
    findings = asyncio.run(doctor.check_all(settings, lambda: probe_runtimes(settings), templates_of(settings)))
    ok = all(finding.ok or not finding.fatal for finding in findings)
    if arguments.json:
        _say(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}))
        return 0 if ok else 1
    for finding in findings:
        mark = "ok  " if finding.ok else "FAIL" if finding.fatal else "warn"
        _say(f"{mark}  {finding.name}: {finding.summary}")
        if finding.remedy:
            _say(f"      -> {finding.remedy}")
    return 0 if ok else 1


def _ca(settings: Settings, _arguments: argparse.Namespace) -> None:
    if settings.domain is None:
        raise InvalidArgument("no domain is set; say `atolld ca --domain sandbox.test`, or set the setting domain")
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = certificates.ensure(settings.state, settings.domain).authority
    _say(
        f"{path}\n\n"
        f"It is trusted for {settings.domain} and its subdomains only. Clients of E2B on this machine:\n"
        f"  export SSL_CERT_FILE={path}        # Python; only this authority is trusted then\n"
        f"  export NODE_EXTRA_CA_CERTS={path}  # Node: beside all others\n"
        f"  curl --cacert {path} ...\n"
        "Everything on this machine (Debian, Ubuntu):\n"
        f"  cp {path} /usr/local/share/ca-certificates/atoll.crt && update-ca-certificates"
    )


def _archive_key(settings: Settings, _arguments: argparse.Namespace) -> None:
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    _say(public_key_text(open_keys(settings.state).public))


def _openapi(_settings: Settings, arguments: argparse.Namespace) -> None:
    _say(specification(arguments.dialect))


def specification(dialect: str = "native") -> str:
    """The OpenAPI document of `native` or `e2b`, as it is frozen in spec/openapi."""
    app = create_app(None) if dialect == "native" else create_e2b_app(None)
    return json.dumps(app.openapi(), indent=2, sort_keys=True)


def _on_database(settings: Settings, work: Callable[[Keys, Projects], Awaitable[T]]) -> T:
    async def run() -> T:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = await open_database(settings.database)
        try:
            clock = SystemClock()
            return await work(Keys(SqlKeys(database), clock), Projects(SqlProjects(database), clock))
        finally:
            await database.close()

    return asyncio.run(run())


def _say(text: str, stream: TextIO | None = None) -> None:
    target = stream or sys.stdout
    target.write(text + "\n")
    target.flush()
