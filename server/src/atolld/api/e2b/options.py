"""What the operator decides about this dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

CLIENT_ID = "atoll"
# What the guest agent speaks. Clients choose features by it; the agent reports the same one.
ENVD_VERSION = "0.6.13"


@dataclass(frozen=True, slots=True)
class E2bOptions:
    """`domain`: told to clients, who make URLs `https://<port>-<id>.<domain>` of it; None: theirs. `max_timeout_h`: the
    longest timeout that may be asked for. `runtime`: what new sandboxes run in."""

    domain: str | None = None
    max_timeout_h: int = 365 * 24
    runtime: str = "gvisor"


async def options_of(request: Request) -> E2bOptions:
    """The options of the daemon that serves this request."""
    options = request.app.state.options
    assert isinstance(options, E2bOptions)
    return options


Options = Annotated[E2bOptions, Depends(options_of)]
