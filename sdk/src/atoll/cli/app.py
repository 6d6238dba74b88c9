"""The root of the command line: its groups, and how errors leave the process."""

from __future__ import annotations

import os
import sys

import click

from atoll._errors import AtollError
from atoll.cli import (
    cp,
    doctor,
    execute,
    image,
    key,
    lifecycle,
    machine,
    pool,
    portable,
    run,
    sandbox,
    shell,
    snapshot,
    template,
)
from atoll.cli.context import FAILED, OWN_FAILURE, Interrupted, Settings

EPILOG = """\b
Examples:
  atoll run -- python3 -c 'print(6*7)'     one command in a sandbox of its own
  atoll sandbox create                     a sandbox that stays; prints its id
  atoll sandbox shell ID                   a terminal in it
  atoll sandbox pause ID                   its memory to disk, until it is used again
  atoll snapshot create ID NAME            keep it as it is; start others from it
  atoll template build . --name app        what a Dockerfile says, to start sandboxes from
  atoll doctor                             what this machine lacks

\b
Environment:
  ATOLL_API_URL   the daemon, by default http://127.0.0.1:8880
  ATOLL_API_KEY   your key; without both, ~/.config/atoll/config.json is read
  NO_COLOR        no colours, also on a terminal
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--api-url", metavar="URL", help="The daemon to talk to; before ATOLL_API_URL.")
@click.pass_context
def cli(context: click.Context, api_url: str | None) -> None:
    """Isolated sandboxes for code nobody has read yet, on machines you own."""
    settings: Settings = context.obj
    settings.api_url = api_url
    if context.invoked_subcommand == "run":
        settings.own_failure = OWN_FAILURE
    if os.environ.get("NO_COLOR"):
        context.color = False


for _command in (
    run.run,
    sandbox.sandbox,
    snapshot.snapshot,
    pool.pool,
    image.image,
    key.key,
    template.template,
    machine.runtime,
    doctor.doctor,
):
    cli.add_command(_command)
for _command in (machine.serve, machine.version):
    cli.add_command(_command)
for _command in (execute.exec_, shell.shell, cp.cp):
    sandbox.sandbox.add_command(_command)
for _command in (lifecycle.pause, lifecycle.resume, lifecycle.freeze, lifecycle.fork, lifecycle.rollback):
    sandbox.sandbox.add_command(_command)
sandbox.sandbox.add_command(lifecycle.checkpoints)
for _command in (portable.export, portable.import_):
    snapshot.snapshot.add_command(_command)


def run_command_line() -> None:
    """Parse the arguments, run the command, exit with its code."""
    settings = Settings()
    try:
        code = cli.main(standalone_mode=False, prog_name="atoll", obj=settings)
    except click.UsageError as error:
        error.show()
        # A command may end with 2 itself.
        code = settings.own_failure if settings.own_failure != FAILED else error.exit_code
    except click.ClickException as error:
        error.show()
        code = settings.own_failure
    except click.Abort:
        code = 130
    except Interrupted as interrupted:
        code = 128 + interrupted.signal_number
    except AtollError as error:
        complain(f"{error.message} [{error.code}]")
        code = settings.own_failure
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        complain(str(error))
        code = settings.own_failure
    sys.exit(code if isinstance(code, int) else 0)


def complain(message: str) -> None:
    """One line about a failure, on standard error."""
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style("atoll: ", fg="red") + message, err=True, color=color)
