"""What a request can be refused for; each is an HTTP status and a sentence."""

from __future__ import annotations


class Refused(Exception):
    """The request is refused with `status` and a message for whoever sent it."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(Refused):
    """The request says something that cannot be."""

    status = 400


class Missing(Refused):
    """What the request names is not there."""

    status = 404


class KernelFailed(Refused):
    """A kernel did not start."""

    status = 500
