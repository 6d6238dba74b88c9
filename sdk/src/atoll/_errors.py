"""The one error tree of the SDK.

Everything the SDK raises on purpose is an `AtollError` with a stable `code`; the code is the contract, the message
is for people. A command that ran and failed is not an error but a `Result`; only `check=True` turns it into one.

    AtollError
    ├── InvalidArgument        invalid_argument      the request is wrong; sending it again cannot help
    ├── Unauthenticated        unauthenticated       no key, or one that does not exist
    ├── PermissionDenied       permission_denied     not allowed: the key, or a file of the sandbox
    ├── NotFound               not_found             no such sandbox, file, process, template ...
    │   └── SandboxEnded       sandbox_ended         the sandbox this object stands for is not running any more
    ├── AlreadyExists          already_exists        the name is taken
    ├── FailedPrecondition     failed_precondition   the object is not in a state that allows this
    ├── BuildError             build_failed          a step of an image or a template failed
    ├── Conflict               conflict              somebody else changed the object first
    ├── LimitExceeded          limit_exceeded        a limit of the project, or of the SDK, is passed
    ├── Capacity               capacity              the machine has no room; nothing was made
    ├── NoSpace                no_space              the sandbox's disk is full
    ├── Unimplemented          unimplemented         not there, with the reason
    ├── Unavailable            unavailable           a part this needs cannot be used now
    │   ├── RuntimeUnusable    runtime_unusable      the runtime cannot be used on that machine
    │   ├── GuestUnreachable   guest_unreachable     the sandbox's agent does not answer
    │   └── ConnectionFailed   connection_failed     the daemon does not answer, or went away in the middle
    ├── Timeout                deadline_exceeded     it took longer than it was allowed to
    ├── OutputLost             output_lost           part of a command's output could not be delivered
    ├── ForkFailed             fork_failed           not all siblings that were asked for came up
    ├── CommandFailed          command_failed        a command ended with another code than 0 and `check=True`
    └── Internal               internal              a fault of Atoll's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from atoll._events import Result


class AtollError(Exception):
    """Base of everything the SDK raises on purpose.

    `message` says what was wrong, with which value, and what to do. `request_id` finds the request in the daemon's
    log (None when no request got that far). `details` are JSON values that the daemon sent beside the message.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self, message: str, *, request_id: str | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.details: Mapping[str, object] = details or {}


class InvalidArgument(AtollError):
    """The request is wrong; sending it again cannot help."""

    code = "invalid_argument"


class Unauthenticated(AtollError):
    """No key was given, or one that does not exist or was revoked."""

    code = "unauthenticated"


class PermissionDenied(AtollError):
    """The key may not do this, or the sandbox's user may not touch that file."""

    code = "permission_denied"


class NotFound(AtollError):
    """There is no such sandbox, file, process, template or key."""

    code = "not_found"


class SandboxEnded(NotFound):
    """The sandbox is not running any more: killed, expired, out of memory or crashed."""

    code = "sandbox_ended"


class AlreadyExists(AtollError):
    """The name, path or id is taken."""

    code = "already_exists"


class FailedPrecondition(AtollError):
    """The object is not in a state that allows this."""

    code = "failed_precondition"


class BuildError(AtollError):
    """A build failed: one of its steps, its base, or its end.

    step: the number of the step as text, "base", "finalize", or None. command: what it was. exit_code: of its command,
    -1 when a signal ended it, None when it was none. last_lines: the end of its output. where: `file:line` of the call
    that asked for the step, None for a step of a Dockerfile.
    """

    code = "build_failed"

    def __init__(
        self,
        message: str,
        *,
        step: str | None = None,
        command: str | None = None,
        exit_code: int | None = None,
        last_lines: Sequence[str] = (),
        where: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, details=details)
        self.step = step
        self.command = command
        self.exit_code = exit_code
        self.last_lines = tuple(last_lines)
        self.where = where


class Conflict(AtollError):
    """Somebody else changed the object first."""

    code = "conflict"


class LimitExceeded(AtollError):
    """A limit of the project, or of the SDK (its message names it), would be passed."""

    code = "limit_exceeded"


class Capacity(AtollError):
    """The machine has no room for this; nothing was made."""

    code = "capacity"


class NoSpace(AtollError):
    """The sandbox's disk is full."""

    code = "no_space"


class Unimplemented(AtollError):
    """Not there; the message says why and what to use instead."""

    code = "unimplemented"


class Unavailable(AtollError):
    """A part this needs cannot be used now; trying again later may help."""

    code = "unavailable"


class RuntimeUnusable(Unavailable):
    """The runtime cannot be used on that machine; the message is the reason."""

    code = "runtime_unusable"


class GuestUnreachable(Unavailable):
    """The agent inside the sandbox does not answer."""

    code = "guest_unreachable"


class ConnectionFailed(Unavailable):
    """The daemon cannot be reached, or the connection to it broke and could not be taken up again.

    `was_sent`: False when the request surely never arrived, because no connection could be opened.
    """

    code = "connection_failed"

    def __init__(
        self,
        message: str,
        *,
        was_sent: bool = True,
        request_id: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, details=details)
        self.was_sent = was_sent


class Timeout(AtollError):
    """It took longer than it was allowed to.

    `result`: for a command, what it had printed until then (its exit code is -1); None for anything else.
    """

    code = "deadline_exceeded"
    result: Result | None = None


class OutputLost(AtollError):
    """Part of a command's output was gone before the connection to it could be taken up again.

    `result` holds everything else. The command itself ended as `result` says.
    """

    code = "output_lost"

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class ForkFailed(AtollError):
    """Not all siblings that were asked for came up, and `partial=True` was not asked for; those that did are ended.

    `errors`: why, one for each that did not.
    """

    code = "fork_failed"

    def __init__(self, message: str, errors: Sequence[AtollError]) -> None:
        super().__init__(message)
        self.errors = errors


class CommandFailed(AtollError):
    """A command ended with another exit code than 0, and `check=True` was asked for. `result` holds all of it."""

    code = "command_failed"

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class Internal(AtollError):
    """A fault of Atoll's own, or an answer that makes no sense."""

    code = "internal"


def all_error_types() -> list[type[AtollError]]:
    """Every class of the tree, base first."""
    found: list[type[AtollError]] = []
    queue: list[type[AtollError]] = [AtollError]
    while queue:
        kind = queue.pop(0)
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return found
