"""The commands of `atolld` that need all of the daemon, or its database.

They are read in when one of them is asked for: that takes a second, which `atolld status` and `atolld stop` do without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

import uvloop

from atolld.api.app import create_app
from atolld.api.e2b.app import create_e2b_app
from atolld.control.keys import Keys
from atolld.control.projects import Projects
from atolld.daemon import certificates, doctor, logs
from atolld.daemon.app import Daemon
from atolld.daemon.console import say
from atolld.daemon.nodes import probe_runtimes, templates_of
from atolld.daemon.settings import Settings
from atolld.foundation.clock import SystemClock
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import KeyId
from atolld.foundation.units import MIB
from atolld.host.archivekeys import open_keys, public_key_text
from atolld.storage.database import open_database
from atolld.storage.keys import SqlKeys
from atolld.storage.projects import SqlProjects

T = TypeVar("T")


def serve(settings: Settings, arguments: argparse.Namespace) -> None:
    """Run in the foreground until told to stop."""
    handler = logs.to_file(arguments.log_file, settings.log_max_mib * MIB) if arguments.log_file else None
    logs.configure(settings.log_format, settings.log_level, handler)

    async def run() -> None:
        daemon = Daemon(settings)
        daemon.handle_signals()
        await daemon.run()

    uvloop.run(run())


def remove_leftovers(settings: Settings, _arguments: argparse.Namespace) -> None:
    """What `stop --all` does where no daemon runs."""
    logs.configure("auto", "warning")
    daemon = Daemon(settings)
    daemon.stop(end_all=True)
    asyncio.run(daemon.run())


def key_create(settings: Settings, arguments: argparse.Namespace) -> None:
    """Make a key and print its secret."""

    async def work(keys: Keys, projects: Projects) -> str:
        project = await projects.ensure_default()
        return (await keys.create(project.id, arguments.name))[1]

    say(_on_database(settings, work))


def key_list(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print the default project's keys."""

    async def work(keys: Keys, projects: Projects) -> list[dict[str, object]]:
        project = await projects.ensure_default()
        return [asdict(key) for key in await keys.list(project.id)]

    found = _on_database(settings, work)
    if arguments.json:
        say(json.dumps(found))
        return
    for key in found:
        state = "revoked" if key["revoked_at"] else "in use"
        say(f"{key['id']}  {key['prefix']}...  {state:8} {key['name']}")


def key_revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    """End a key."""

    async def work(keys: Keys, projects: Projects) -> None:
        project = await projects.ensure_default()
        await keys.revoke(project.id, KeyId(arguments.id))

    _on_database(settings, work)
    say("revoked; a running daemon refuses it within 2 s")


def check(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print what `doctor` finds; 1 when something keeps the daemon from working."""
    logs.configure("auto", "error")
    findings = asyncio.run(doctor.check_all(settings, lambda: probe_runtimes(settings), templates_of(settings)))
    ok = all(finding.ok or not finding.fatal for finding in findings)
    if arguments.json:
        say(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}))
        return 0 if ok else 1
    for finding in findings:
        mark = "ok  " if finding.ok else "FAIL" if finding.fatal else "warn"
        say(f"{mark}  {finding.name}: {finding.summary}")
        if finding.remedy:
            say(f"      -> {finding.remedy}")
    return 0 if ok else 1


def ca(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Print where the authority lies and how to trust it. Raises InvalidArgument without a domain."""
    if settings.domain is None:
        raise InvalidArgument("no domain is set; say `atolld ca --domain sandbox.test`, or set the setting domain")
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = certificates.ensure(settings.state, settings.domain).authority
    say(
        f"{path}\n\n"
        f"It is trusted for {settings.domain} and its subdomains only. Clients of E2B on this machine:\n"
        f"  export SSL_CERT_FILE={path}        # Python; only this authority is trusted then\n"
        f"  export NODE_EXTRA_CA_CERTS={path}  # Node: beside all others\n"
        f"  curl --cacert {path} ...\n"
        "Everything on this machine (Debian, Ubuntu):\n"
        f"  cp {path} /usr/local/share/ca-certificates/atoll.crt && update-ca-certificates"
    )


def archive_key(settings: Settings, _arguments: argparse.Namespace) -> None:
    """Print the public key that signs archives."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    say(public_key_text(open_keys(settings.state).public))


def openapi(_settings: Settings, arguments: argparse.Namespace) -> None:
    """Print a specification."""
    say(specification(arguments.dialect))


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
