"""Bodies that E2B's clients send. Field names are the wire's; what is not known is let pass, as E2B does."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SHORT_TIMEOUT_S = 15
LONG_TIMEOUT_S = 300

Seconds = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class Body(BaseModel):
    """Base of all."""

    model_config = ConfigDict(extra="ignore")


class NetworkUpdate(Body):
    """What a sandbox may reach; also the body of an update, in which what is left out is cleared."""

    allowOut: list[str] | None = None
    denyOut: list[str] | None = None
    dnsServers: list[str] | None = None
    egressProxy: dict[str, object] | None = None
    rules: dict[str, object] | None = None
    allow_internet_access: bool | None = None


class NetworkConfig(NetworkUpdate):
    """The network of a new sandbox."""

    allowPublicTraffic: bool | None = None
    maskRequestHost: str | None = None
    httpsPorts: list[int] | None = None


class NewSandbox(Body):
    """A sandbox to be created, in either version; `timeout` None: the version's own default."""

    templateID: str = Field(min_length=1, max_length=255)
    timeout: Seconds | None = None
    secure: bool | None = None
    autoPause: bool | None = None
    autoPauseMemory: bool | None = None
    autoResume: dict[str, object] | None = None
    allow_internet_access: bool | None = None
    network: NetworkConfig | None = None
    metadata: dict[str, str] | None = None
    envVars: dict[str, str] | None = None
    mcp: dict[str, object] | None = None
    iam: dict[str, object] | None = None
    volumeMounts: list[object] | None = None


class SetTimeout(Body):
    """A new end, in seconds from now."""

    timeout: Seconds


class Refresh(Body):
    """At least so many seconds from now."""

    duration: Seconds | None = None


class Connect(Body):
    """At least so many seconds from now."""

    timeout: Seconds = LONG_TIMEOUT_S
    memory: bool | None = None


class Pause(Body):
    """What a pause keeps, and whether the agent must answer before it."""

    memory: bool | None = None
    requireHealthyGuest: bool | None = None


class Resume(Body):
    """The life of a resumed sandbox, in seconds from now."""

    timeout: Seconds = SHORT_TIMEOUT_S
    autoPause: bool | None = None
    memory: bool | None = None


class Fork(Body):
    """How many, and how long each lives, in seconds from now."""

    count: int = 1
    timeout: Seconds = SHORT_TIMEOUT_S


class NewSnapshot(Body):
    """What a snapshot keeps, and its name."""

    name: str | None = Field(default=None, max_length=255)
    memory: bool | None = None


class NewKey(Body):
    """A new API key, or a key's new name."""

    name: str = Field(min_length=1, max_length=128)
