"""Start a command given on the command line; what cannot be started exits as in a shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from atoll._errors import AtollError, InvalidArgument, NotFound, PermissionDenied, SandboxEnded
from atoll._sync.process import Process
from atoll._sync.sandbox import Sandbox
from atoll.cli.context import NOT_FOUND

CANNOT_EXECUTE = 126


def start(
    sandbox: Sandbox,
    command: tuple[str, ...],
    options: Mapping[str, Any],
    *,
    timeout_s: float | None,
    stdin: bool,
    envs: Mapping[str, str] | None = None,
) -> Process:
    """The started process. Exits with 127 when the program does not exist, with 126 when it cannot be executed."""
    try:
        return sandbox.start(
            command, cwd=options["cwd"], user=options["user"], envs=envs, timeout_s=timeout_s, stdin=stdin
        )
    except SandboxEnded:
        raise
    except (NotFound, InvalidArgument, PermissionDenied) as error:
        code = _shell_code(error)
        if code is None:
            raise
        hint = ""
        if len(command) == 1 and any(character in command[0] for character in " |;&<>$"):
            hint = "; for a shell's line, write: -- sh -c '...'"
        click.echo(f"atoll: {error.message}{hint}", err=True)
        raise SystemExit(code) from None


def _shell_code(error: AtollError) -> int | None:
    """What a shell would exit with; None when it is not the program that is at fault but the directory or user."""
    words = error.message.lower()
    if "cwd" in words or "username" in words:
        return None
    if isinstance(error, NotFound) or "executable file not found" in words:
        return NOT_FOUND
    if isinstance(error, PermissionDenied) or "not a program" in words or "exec format" in words:
        return CANNOT_EXECUTE
    return None
