"""`atoll doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import click

from atoll._errors import AtollError, ConnectionFailed, Timeout
from atoll._sync.daemon import Daemon
from atoll.cli.context import FAILED, Settings, json_option
from atoll.cli.machine import find_daemon
from atoll.cli.output import clean, note, print_json

LOCAL_LIMIT_S = 120


@click.command()
@json_option
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Check the machine that runs sandboxes, and say what to do about each fault.

    The daemon is asked; when none answers and it is installed here, the check is made without it. Exits with 1 when
    sandboxes cannot run.
    """
    config = settings.config()
    try:
        report = Daemon(config).doctor()
    except (ConnectionFailed, Timeout) as error:
        report = _without_daemon(error, config.is_loopback)
    checks = report.get("checks")
    if not isinstance(checks, list):
        raise click.ClickException("the doctor's answer has no checks in it")
    is_ok = bool(report.get("ok"))
    if as_json:
        print_json(report)
    else:
        _print(checks, is_ok)
    return 0 if is_ok else FAILED


def _without_daemon(problem: AtollError, is_local: bool) -> Mapping[str, Any]:
    program = find_daemon() if is_local else None
    if program is None:
        raise problem
    note(f"{problem.message}; checking this machine without it")
    outcome = subprocess.run(
        [program, "doctor", "--json"], capture_output=True, text=True, timeout=LOCAL_LIMIT_S, check=False
    )
    try:
        report = json.loads(outcome.stdout)
    except ValueError:
        said = outcome.stderr.strip() or outcome.stdout.strip() or "nothing"
        raise click.ClickException(f"{program} doctor failed with code {outcome.returncode}: {said}") from None
    if isinstance(report, list):
        report = {"ok": all(check.get("ok") or not check.get("fatal") for check in report), "checks": report}
    checks = [
        {
            "name": "daemon",
            "ok": False,
            "fatal": True,
            "summary": problem.message,
            "remedy": "start it with: atoll serve",
        },
        *report["checks"],
    ]
    return {"ok": False, "checks": checks}


def _print(checks: Sequence[Mapping[str, Any]], is_ok: bool) -> None:
    for check in checks:
        if check.get("ok"):
            mark = click.style("ok   ", fg="green")
        elif check.get("fatal"):
            mark = click.style("FAIL ", fg="red")
        else:
            mark = click.style("warn ", fg="yellow")
        name, summary = clean(str(check.get("name"))), clean(str(check.get("summary")))
        click.echo(mark + click.style(name, bold=True) + f": {summary}")
        remedy = check.get("remedy")
        if not check.get("ok") and remedy:
            for line in clean(str(remedy)).splitlines():
                click.echo(f"       {line}")
    click.echo("sandboxes can run" if is_ok else "sandboxes cannot run until the faults above are mended")
