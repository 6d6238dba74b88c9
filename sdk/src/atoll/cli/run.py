"""`atoll run`: one command in a sandbox of its own."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from atoll._errors import Timeout
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import TIMED_OUT, Deferral, Settings, interruptible, json_option
from atoll.cli.options import command_options, create_arguments, sandbox_options
from atoll.cli.output import note, print_json
from atoll.cli.pump import exit_code, pump
from atoll.cli.start import start

# The sandbox outlives its command by so much, so that it is us who end it; if we are gone, it ends by itself.
SLACK_S = 30

EPILOG = """\b
The exit code is the command's; 128+N when signal N ended it. Besides:
  124  the command was not done after --timeout and was killed
  125  atoll itself failed; the reason is on standard error
  126  the command was found but could not be executed
  127  there is no such command in the sandbox

\b
Examples:
  atoll run -- python3 -c 'print(6*7)'
  atoll run --memory 2048 --timeout 3600 -- sh -c 'git clone "$1" r && cd r && make' - https://example.org/r.git
  tar c . | atoll run --no-internet -- tar t
  atoll run --keep -- true        leaves the sandbox running and prints its id
"""


@click.command(epilog=EPILOG, context_settings={"allow_interspersed_args": False})
@sandbox_options
@command_options
@click.option("--timeout", type=int, default=300, show_default=True, metavar="SECONDS", help="The command's time.")
@click.option("--keep", is_flag=True, help="Leave the sandbox running; its id is printed on standard error.")
@json_option
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
@click.pass_obj
def run(
    settings: Settings, /, command: tuple[str, ...], timeout: int, keep: bool, as_json: bool, **options: Any
) -> int:
    """Create a sandbox, run CMD in it, end the sandbox.

    Standard input, output and error are the command's, byte for byte. Ctrl-C ends the command and the sandbox.
    """
    if timeout < 1:
        raise click.UsageError(f"--timeout is {timeout}; it must be at least 1 second")
    with interruptible() as deferral:
        with deferral.hold():
            sandbox = Sandbox.create(**create_arguments(options), timeout_s=timeout + SLACK_S, config=settings.config())
        try:
            return _run_in(sandbox, deferral, command, timeout, as_json, options)
        finally:
            if keep:
                note(f"sandbox {sandbox.id} is still running; end it with: atoll sandbox kill {sandbox.id}")
            else:
                with deferral.hold():
                    sandbox.kill()


def _run_in(
    sandbox: Sandbox, deferral: Deferral, command: tuple[str, ...], timeout: int, as_json: bool, options: Any
) -> int:
    deferral.check()
    forward = not options["no_stdin"]
    began = time.monotonic()
    process = start(sandbox, command, options, timeout_s=timeout, stdin=forward and not as_json)
    try:
        if not as_json:
            return pump(process, forward_stdin=forward)
        result = process.wait()
    except Timeout as error:
        click.echo(f"atoll: {error.message}; give it longer with --timeout", err=True)
        return TIMED_OUT
    assert process.exit is not None
    print_json(
        {
            "sandbox_id": sandbox.id,
            "exit_code": exit_code(process.exit),
            "error": result.error,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "create_ms": sandbox.created.timings_ms,
            "duration_s": round(time.monotonic() - began, 4),
        }
    )
    sys.stdout.flush()
    return exit_code(process.exit)
