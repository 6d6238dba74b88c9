"""Faults of the data plane's upstream side."""

from __future__ import annotations

from atolld.foundation.errors import GuestUnreachable


class UpstreamBroken(GuestUnreachable):
    """The sandbox's side broke the connection or HTTP. `nothing_received`: before the first byte of an answer."""

    def __init__(self, message: str, *, nothing_received: bool = False) -> None:
        super().__init__(message)
        self.nothing_received = nothing_received


class SandboxEnded(GuestUnreachable):
    """The sandbox ended while it was being talked to."""


class SandboxInterrupted(GuestUnreachable):
    """The sandbox was saved or frozen while it was being talked to, which ends its connections."""
