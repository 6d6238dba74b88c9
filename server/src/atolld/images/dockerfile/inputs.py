"""What a build is asked for with, besides its text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from atolld.foundation.errors import InvalidArgument
from atolld.images.oci import Platform, host_platform

MAX_ARGS = 256
MAX_ARGS_BYTES = 128 * 1024
MAX_COMMAND_BYTES = 64 * 1024

_ARG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_FILES_NAME = re.compile(r"[0-9a-zA-Z_-]{1,128}")


def machine_platform() -> Platform:
    """The platform of this machine. Raises FailedPrecondition on one without images."""
    return host_platform(os.uname().machine)


@dataclass(frozen=True, slots=True)
class Inputs:
    """`context`: the name of the files the caller uploaded, None when there are none. `args`: build arguments by name.
    `target`: the stage that comes out, None for the last. `platform`: of the machine that builds. The rest is as in
    `core.build.Plan`.
    """

    context: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    start_command: str | None = None
    ready_command: str | None = None
    force: bool = False
    platform: Platform = field(default_factory=machine_platform)

    def check(self) -> None:
        """Raises InvalidArgument when a value is out of its range or form, naming it."""
        if self.context is not None:
            check_files_name(self.context)
        if len(self.args) > MAX_ARGS:
            raise InvalidArgument(f"{len(self.args)} build arguments are too many: {MAX_ARGS} are the most")
        for name, value in self.args.items():
            if not _ARG_NAME.fullmatch(name):
                raise InvalidArgument(
                    f"{name[:80]!r} is not the name of a build argument: letters, digits and '_', not beginning with a "
                    "digit"
                )
            check_text(value, f"the build argument {name}")
        if sum(len(name) + len(value.encode()) for name, value in self.args.items()) > MAX_ARGS_BYTES:
            raise InvalidArgument(f"the build arguments have more than {MAX_ARGS_BYTES} bytes together")
        for what, command in (("start command", self.start_command), ("ready command", self.ready_command)):
            if command is None:
                continue
            check_text(command, f"the {what}")
            if not command.strip() or len(command.encode()) > MAX_COMMAND_BYTES:
                raise InvalidArgument(f"the {what} has to be 1 to {MAX_COMMAND_BYTES} bytes; leave it out for none")


def check_files_name(name: str) -> None:
    """Raises InvalidArgument when `name` cannot be what uploaded files are called."""
    if not _FILES_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r} is not a name of uploaded files: 1 to 128 letters, digits, '_' and '-' are expected"
        )


def check_text(text: str, what: str) -> None:
    """Raises InvalidArgument when `text` cannot be handed to a program: it has a NUL, or is no Unicode."""
    if "\0" in text:
        raise InvalidArgument(f"{what} contains a NUL byte, which no program can be given")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is not valid Unicode: it has half of a surrogate pair") from None
