"""What a running command tells, and the result it leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stdout:
    """A piece of standard output. `data`: the bytes; `text`: the same as UTF-8, decoded across pieces.

    A character that is cut by the end of a piece appears in the next piece's `text`; bytes that are no UTF-8 appear
    as U+FFFD.
    """

    data: bytes
    text: str


@dataclass(frozen=True)
class Stderr:
    """A piece of standard error; as `Stdout`."""

    data: bytes
    text: str


@dataclass(frozen=True)
class PtyOutput:
    """A piece of a terminal's output; as `Stdout`."""

    data: bytes
    text: str


@dataclass(frozen=True)
class Gap:
    """Output is missing here: the connection broke, and the agent no longer had all that came meanwhile.

    `lost_bytes`: how many bytes of output, None when that cannot be known.
    """

    lost_bytes: int | None


@dataclass(frozen=True)
class Exit:
    """The end of the command.

    `exit_code`: its code, -1 when a signal ended it. `status`: in words, such as `exit status 7` or
    `signal: killed`. `error`: those words unless the code is 0, else None.
    """

    exit_code: int
    status: str
    error: str | None


Event = Stdout | Stderr | PtyOutput | Gap | Exit


@dataclass(frozen=True)
class Result:
    """A command that was run to its end.

    `exit_code`: 0 is success, -1 means that a signal ended it (`error` says which). `stdout`, `stderr`: as UTF-8, with
    U+FFFD for what is none; `stdout_bytes`, `stderr_bytes`: as they came. A terminal's output is in stdout.
    `error`: None when the code is 0, else in words. `duration_s`: seconds from asking for the command to its end, as
    seen by this program.
    """

    stdout_bytes: bytes
    stderr_bytes: bytes
    exit_code: int
    error: str | None
    duration_s: float

    @property
    def stdout(self) -> str:
        """Standard output as text."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0
