"""What E2B has and Atoll has not yet: `501` with the reason, so that nobody has to guess."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter

from atolld.api.services import Caller
from atolld.foundation.errors import Unimplemented

router = APIRouter()

FIRST_FORM = "the first form of builds pushes to E2B's own registry, which is not there; use `POST /v3/templates`"
VOLUMES = "volumes are not supported yet"
SECRETS = "secrets are not supported yet"
EVENTS = "events are not served in this form yet; `GET /v1/events` has them"
WEBHOOKS = "webhooks are not supported yet"
TEAM_METRICS = "metrics of a team are not kept; `GET /metrics` has those of the daemon"

# Fixed paths before those with an id in the same place.
LATER = {
    "POST /templates": FIRST_FORM,
    "POST /templates/{id}": FIRST_FORM,
    "POST /templates/{id}/builds/{build}": FIRST_FORM,
    "GET /volumes": VOLUMES,
    "POST /volumes": VOLUMES,
    "GET /volumes/{id}": VOLUMES,
    "DELETE /volumes/{id}": VOLUMES,
    "GET /secrets": SECRETS,
    "POST /secrets": SECRETS,
    "GET /secrets/{id}": SECRETS,
    "POST /secrets/{id}": SECRETS,
    "DELETE /secrets/{id}": SECRETS,
    "GET /events/sandboxes": EVENTS,
    "GET /events/sandboxes/{id}": EVENTS,
    "GET /events/webhooks": WEBHOOKS,
    "POST /events/webhooks": WEBHOOKS,
    "GET /events/webhooks/{id}": WEBHOOKS,
    "PATCH /events/webhooks/{id}": WEBHOOKS,
    "DELETE /events/webhooks/{id}": WEBHOOKS,
    "GET /events/webhooks/{id}/deliveries": WEBHOOKS,
    "GET /events/webhooks/{id}/stats": WEBHOOKS,
    "GET /teams/{id}/metrics": TEAM_METRICS,
    "GET /teams/{id}/metrics/max": TEAM_METRICS,
}

# Asked for with a volume's own token, which nobody has: refused without looking at it.
WITHOUT_A_KEY = {
    "GET /volumecontent/{id}/path": VOLUMES,
    "PATCH /volumecontent/{id}/path": VOLUMES,
    "DELETE /volumecontent/{id}/path": VOLUMES,
    "GET /volumecontent/{id}/dir": VOLUMES,
    "POST /volumecontent/{id}/dir": VOLUMES,
    "GET /volumecontent/{id}/file": VOLUMES,
    "PUT /volumecontent/{id}/file": VOLUMES,
}

Handler = Callable[..., Coroutine[Any, Any, None]]


def _refusal(reason: str) -> Handler:
    async def refuse(_caller: Caller) -> None:
        raise Unimplemented(reason)

    return refuse


def _refusal_without_a_key(reason: str) -> Handler:
    async def refuse() -> None:
        raise Unimplemented(reason)

    return refuse


for operation, reason in LATER.items():
    method, path = operation.split(" ")
    router.add_api_route(path, _refusal(reason), methods=[method], include_in_schema=False)
for operation, reason in WITHOUT_A_KEY.items():
    method, path = operation.split(" ")
    router.add_api_route(path, _refusal_without_a_key(reason), methods=[method], include_in_schema=False)
