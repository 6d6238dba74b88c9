"""`atoll sandbox exec`: a command in a sandbox that runs already."""

from __future__ import annotations

import signal
from typing import Any

import click

from atoll._errors import AtollError, NotFound, Timeout
from atoll._sync.process import Process
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import TIMED_OUT, Interrupted, Settings, interruptible, json_option, start_thread
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
    with interruptible() as deferral:
        with deferral.hold():
            process = start(sandbox, command, options, timeout_s=timeout, stdin=forward, envs=envs)
        if detach:
            process.disconnect()
            print_json({"pid": process.pid}) if as_json else click.echo(process.pid)
            return 0
        with deferral.handled_by(_Forwarder(process)):
            try:
                return _json(process) if as_json else pump(process, forward_stdin=forward)
            except Timeout as error:
                click.echo(f"atoll: {error.message}", err=True)
                return TIMED_OUT


class _Forwarder:
    """Hands signals on to the command: the first as it is, the second as SIGKILL; the third ends this program.

    From a thread of its own: raised in the middle of reading, an interruption would lose what was just read.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._count = 0

    def __call__(self, number: int) -> None:
        self._count += 1
        if self._count > 2:
            raise Interrupted(number)
        name = signal.Signals(number).name if self._count == 1 else "SIGKILL"
        start_thread("signal", lambda: self._send(name))

    def _send(self, name: str) -> None:
        try:
            self._process.send_signal(name)
        except NotFound:
            return
        except AtollError as error:
            click.echo(f"atoll: {name} could not be sent: {error.message}", err=True)
            return
        if self._count == 1:
            note(f"atoll: sent {name} to the command; once more to kill it")


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
