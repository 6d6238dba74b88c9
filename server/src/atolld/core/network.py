"""What a sandbox may reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Egress policy of one sandbox.

    `internet`: whether packets to public addresses leave at all. Whatever it says, the host, other sandboxes,
    link-local and private addresses stay out of reach.
    """

    internet: bool = True
