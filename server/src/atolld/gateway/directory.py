"""What the gateway must be told by whoever builds it: who may pass, and where sandboxes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atolld.core.lifecycle import SandboxState
from atolld.core.project import Principal
from atolld.foundation.errors import AtollError
from atolld.foundation.ids import ProjectId, SandboxId

# The states that `Directory.wake` brings a sandbox back from, or waits for the end of.
ASLEEP = frozenset({SandboxState.FROZEN, SandboxState.PAUSING, SandboxState.PAUSED, SandboxState.RESUMING})


class Endpoint(Protocol):
    """Where a sandbox is reached, and what its ports ask of who comes from outside.

    `address`: its IPv4 address; an agent on another port is told as `address:port`. It counts only while the sandbox
    runs. `auto_resume`: whether requests wake it when it is paused; a frozen one is always woken. `secure` False: the
    agent's token is put into requests that come without one. `allow_public_traffic` False: ports want `traffic_token`.
    `mask_request_host`: the `Host` that programs on its ports see, `${PORT}` standing for the port.
    """

    @property
    def address(self) -> str: ...

    @property
    def agent_token(self) -> str: ...

    @property
    def project_id(self) -> ProjectId: ...

    @property
    def state(self) -> SandboxState: ...

    @property
    def auto_resume(self) -> bool: ...

    @property
    def secure(self) -> bool: ...

    @property
    def allow_public_traffic(self) -> bool: ...

    @property
    def traffic_token(self) -> str | None: ...

    @property
    def mask_request_host(self) -> str | None: ...


def reachable(endpoint: Endpoint) -> bool:
    """Whether the sandbox runs, or a request may bring it to that."""
    if endpoint.state is SandboxState.PAUSED:
        return endpoint.auto_resume
    return endpoint.state is SandboxState.RUNNING or endpoint.state in ASLEEP


class Directory(Protocol):
    """Knows every live sandbox, from memory; those that are frozen or paused are live."""

    def by_token(self, agent_token: str, /) -> SandboxId | None:
        """The live sandbox whose agent has this token."""
        ...

    def agent_tokens(self) -> Sequence[tuple[SandboxId, str]]:
        """The id of every sandbox that runs or can be woken, and its agent's token."""
        ...

    def endpoint(self, sandbox_id: SandboxId, /) -> Endpoint | None:
        """None when no live sandbox has this id, or it has not come up for the first time yet."""
        ...

    async def wake(self, sandbox_id: SandboxId, /) -> Endpoint | None:
        """Where it answers once it runs: thawed, or resumed if its policy has auto_resume.

        Waits for a pause or a resume that is under way; one that runs is answered at once. None when it is not live, or
        paused and not to be woken. Raises what kept it from coming up (Capacity, GuestUnreachable, ...), and
        DeadlineExceeded when it took too long.
        """
        ...


class Authenticator(Protocol):
    """Knows API keys."""

    async def authenticate(self, secret: str, /) -> Principal:
        """Raises Unauthenticated."""
        ...


class Answer(Protocol):
    """An error as an HTTP answer."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...

    @property
    def body(self) -> bytes: ...


class ErrorRenderer(Protocol):
    """Turns an error into the API's own form."""

    def __call__(self, error: AtollError, request_id: str, /, status: int | None = None) -> Answer: ...
