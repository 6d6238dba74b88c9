"""The one error tree.

Every error a caller can see is an `AtollError` with a stable `code`; the code is the contract, the message is
for people. Only `atolld.api.errors` maps codes to a protocol's own form.

    AtollError
    ├── InvalidArgument      invalid_argument      the request is wrong; sending it again cannot help
    ├── Unauthenticated      unauthenticated       no key, or one that does not exist
    ├── PermissionDenied     permission_denied     the key may not do this
    ├── NotFound             not_found             no such object in the caller's project
    ├── AlreadyExists        already_exists        the name is taken
    ├── FailedPrecondition   failed_precondition   the object is not in a state that allows this
    ├── Conflict             conflict              somebody else changed the object first
    ├── LimitExceeded        limit_exceeded        a limit of the project
    ├── Capacity             capacity              the machine has no room; nothing was made
    ├── Unimplemented        unimplemented         not there, with the reason
    ├── Unavailable          unavailable           a part this needs cannot be used now
    │   ├── RuntimeUnusable  runtime_unusable      the runtime cannot be used on this machine
    │   └── GuestUnreachable guest_unreachable     the sandbox's agent does not answer
    │       └── PortNotOpen  port_not_open         the sandbox runs, but nothing listens on that port
    ├── DeadlineExceeded     deadline_exceeded     it took longer than it was allowed
    └── Internal             internal              our fault
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AtollError(Exception):
    """Base of all errors with a stable code.

    `message` says what was wrong, with which value, and what to do. `details` are JSON values shown beside it.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details


class InvalidArgument(AtollError):
    """The request is wrong; sending it again cannot help."""

    code = "invalid_argument"


class Unauthenticated(AtollError):
    """No key was given, or one that does not exist or was revoked."""

    code = "unauthenticated"


class PermissionDenied(AtollError):
    """The key is known but may not do this."""

    code = "permission_denied"


class NotFound(AtollError):
    """There is no such object in the caller's project."""

    code = "not_found"


class AlreadyExists(AtollError):
    """The name or id is taken."""

    code = "already_exists"


class FailedPrecondition(AtollError):
    """The object is not in a state that allows this."""

    code = "failed_precondition"


class Conflict(AtollError):
    """Somebody else changed the object between reading and writing it."""

    code = "conflict"


class LimitExceeded(AtollError):
    """A limit of the project would be passed."""

    code = "limit_exceeded"


class Capacity(AtollError):
    """The machine has no room for this; nothing was made."""

    code = "capacity"


class Unimplemented(AtollError):
    """Not there; the message says why and what to use instead."""

    code = "unimplemented"


class Unavailable(AtollError):
    """A part this needs cannot be used now; trying again later may help."""

    code = "unavailable"


class RuntimeUnusable(Unavailable):
    """The runtime cannot be used on this machine; the message is the reason."""

    code = "runtime_unusable"


class GuestUnreachable(Unavailable):
    """The agent inside the sandbox does not answer."""

    code = "guest_unreachable"


class PortNotOpen(GuestUnreachable):
    """The sandbox runs, but nothing listens on that port of it."""

    code = "port_not_open"


class DeadlineExceeded(AtollError):
    """It took longer than it was allowed to."""

    code = "deadline_exceeded"


class Internal(AtollError):
    """A fault of ours; the message is safe to show, the log has the rest."""

    code = "internal"


def all_error_types() -> list[type[AtollError]]:
    """Every class of the tree, base first; for tables that must cover all of them.

    Classes of other modules are left out: a part may refine a kind for itself, but not add a code.
    """
    found: list[type[AtollError]] = []
    queue: list[type[AtollError]] = [AtollError]
    while queue:
        kind = queue.pop(0)
        found.append(kind)
        queue.extend(one for one in kind.__subclasses__() if one.__module__ == __name__)
    return found
