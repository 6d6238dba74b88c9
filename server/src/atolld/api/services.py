"""The use cases the API translates to, as the daemon hands them in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from atolld.control.builds.builds import Builds
from atolld.control.builds.definitions import Definitions
from atolld.control.builtins import Builtins
from atolld.control.events import Events
from atolld.control.health import agent_answers
from atolld.control.images import Images
from atolld.control.keys import Keys
from atolld.control.live import Endpoint
from atolld.control.pools import Pools
from atolld.control.projects import Projects
from atolld.control.sandboxes import Sandboxes
from atolld.control.snapshots import Snapshots
from atolld.control.templaterecords import TemplateRecords
from atolld.control.templates import Templates
from atolld.control.templatetags import TemplateTags
from atolld.core.project import Principal
from atolld.foundation.errors import PermissionDenied, Unauthenticated
from atolld.node.interface import Node


class Check(Protocol):
    """One finding of the doctor."""

    @property
    def name(self) -> str: ...

    @property
    def ok(self) -> bool: ...

    @property
    def summary(self) -> str: ...

    @property
    def remedy(self) -> str: ...

    @property
    def fatal(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a handler may call. `metrics_public`: whether `/metrics` answers clients that are not on loopback.
    `agent_answers`: whether the agent of a sandbox is well now."""

    sandboxes: Sandboxes
    snapshots: Snapshots
    pools: Pools
    templates: Templates
    images: Images
    builds: Builds
    definitions: Definitions
    builtins: Builtins
    template_records: TemplateRecords
    template_tags: TemplateTags
    projects: Projects
    keys: Keys
    events: Events
    node: Node
    doctor: Callable[[], Awaitable[list[Check]]]
    metrics: Callable[[], bytes]
    health: Callable[[], Mapping[str, object]]
    metrics_public: bool = False
    agent_answers: Callable[[Endpoint], Awaitable[bool]] = agent_answers


# Dependencies are coroutines although they wait for nothing: plain functions are sent through a pool of threads, and a
# busy machine makes every request wait for one.


async def services_of(request: Request) -> Services:
    """The services of the daemon that serves this request."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def secret_of(request: Request) -> str:
    """The API key that was sent. Raises Unauthenticated without one."""
    secret = request.headers.get("x-api-key", "").strip()
    if not secret:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        secret = rest.strip() if scheme.lower() == "bearer" else ""
    if not secret:
        raise Unauthenticated("no API key was sent: put it into the header X-API-Key or 'Authorization: Bearer <key>'")
    return secret


async def principal_of(request: Request) -> Principal:
    """Who asks. Raises Unauthenticated."""
    services = await services_of(request)
    return await services.keys.authenticate(await secret_of(request))


async def local_or_public(request: Request) -> None:
    """Raises PermissionDenied for `/metrics` from another machine, unless the setting allows it."""
    host = request.client.host if request.client else ""
    services = await services_of(request)
    if not services.metrics_public and not (host.startswith("127.") or host in ("::1", "")):
        raise PermissionDenied("metrics are shown to clients on this machine only; set metrics_public to change that")


Use = Annotated[Services, Depends(services_of)]
Caller = Annotated[Principal, Depends(principal_of)]
Secret = Annotated[str, Depends(secret_of)]
