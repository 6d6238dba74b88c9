"""`atoll sandbox exec`: a command in a sandbox that runs already."""

from __future__ import annotations

from typing import Any

import click

from atoll._errors import Timeout
from atoll._sync.process import Process
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import TIMED_OUT, Interrupted, Settings, interruptible, json_option
from atoll.cli.options import command_options, pairs
from atoll.cli.output import note, print_json
from atoll.cli.pump import exit_code, pump
from atoll.cli.start import start

EPILOG = """\b
The exit code is the command's, as with `atoll run`: 128+N for signal N, 124 after --timeout, 125 when atoll itself
failed, 126 and 127 for a command that cannot be executed or does not exist.

\b
Examples:
  atoll sandbox exec ID -- ls -la
  atoll sandbox exec ID --user root -- apt-get install -y jq
  atoll sandbox exec ID --detach -- python3 -m http.server 8000
"""


@click.command("exec", epilog=EPILOG)
@click.argument("id")
@command_options
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="[default: no limit]")
@click.option("--detach", "-d", is_flag=True, help="Leave it running and print its process id.")
@json_option
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
@click.pass_obj
def exec_(
    settings: Settings,
    /,
    id: str,
    command: tuple[str, ...],
    env: tuple[str, ...],
    timeout: float | None,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run CMD in the sandbox ID. Ctrl-C interrupts the command; a second one kills it."""
    sandbox = Sandbox.connect(id, config=settings.config())
    envs = pairs(env, "--env")
    forward = not (options["no_stdin"] or detach or as_json)
    process = start(sandbox, command, options, timeout_s=timeout, stdin=forward, envs=envs)
    if detach:
        process.disconnect()
        print_json({"pid": process.pid}) if as_json else click.echo(process.pid)
        return 0
    try:
        return _json(process) if as_json else _attached(process, forward)
    except Timeout as error:
        click.echo(f"atoll: {error.message}", err=True)
        return TIMED_OUT


def _attached(process: Process, forward: bool) -> int:
    with interruptible():
        try:
            return pump(process, forward_stdin=forward)
        except Interrupted as interrupted:
            process.send_signal("SIGINT" if interrupted.signal_number == 2 else "SIGTERM")
            note("interrupted; once more to kill it")
            try:
                return pump(process, forward_stdin=False)
            except Interrupted:
                process.kill()
                raise


def _json(process: Process) -> int:
    result = process.wait()
    assert process.exit is not None
    code = exit_code(process.exit)
    print_json(
        {
            "exit_code": code,
            "error": result.error,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "duration_s": round(result.duration_s, 4),
        }
    )
    return code
