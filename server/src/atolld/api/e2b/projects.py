"""`/teams` and `/api-keys`: the project of the key, and its keys."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from atolld.api.e2b.requests import NewKey
from atolld.api.services import Caller, Secret, Use
from atolld.control.keys import PREFIX, SECRET_DIGITS
from atolld.core.project import ApiKey
from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import KeyId

router = APIRouter(tags=["projects"])

_SHOWN_DIGITS = 2


class TeamView(BaseModel):
    """A project. `apiKey` is the one that the request came with."""

    teamID: str
    name: str
    apiKey: str
    isDefault: bool


class MaskView(BaseModel):
    """How a key looks. Its end is not stored and so not shown."""

    prefix: str
    valueLength: int
    maskedValuePrefix: str
    maskedValueSuffix: str


class KeyView(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    mask: MaskView
    createdAt: str
    createdBy: None = None
    lastUsed: str | None = None

    @staticmethod
    def of(key: ApiKey) -> KeyView:
        """The view of `key`."""
        return KeyView(**_fields(key))


class CreatedKeyView(KeyView):
    """A new key. `key` is its secret, shown here and never again."""

    key: str

    @staticmethod
    def created(key: ApiKey, secret: str) -> CreatedKeyView:
        """The view of `key`."""
        return CreatedKeyView(**_fields(key), key=secret)


@router.get("/teams")
async def list_teams(use: Use, caller: Caller, secret: Secret) -> list[TeamView]:
    """The project of the key."""
    project = await use.projects.get(caller.project_id)
    return [TeamView(teamID=project.id, name=project.name, apiKey=secret, isDefault=True)]


@router.get("/api-keys")
async def list_keys(use: Use, caller: Caller) -> list[KeyView]:
    """The project's keys that can be used."""
    return [KeyView.of(key) for key in await use.keys.list(caller.project_id) if key.revoked_at is None]


@router.post("/api-keys", status_code=201)
async def create_key(body: NewKey, use: Use, caller: Caller) -> CreatedKeyView:
    """A new key."""
    return CreatedKeyView.created(*await use.keys.create(caller.project_id, body.name))


@router.patch("/api-keys/{id}")
async def rename_key(id: str, body: NewKey, use: Use, caller: Caller) -> None:
    """Give a key another name."""
    await use.keys.rename(caller.project_id, _key_id(id), body.name)


@router.delete("/api-keys/{id}", status_code=204)
async def delete_key(id: str, use: Use, caller: Caller) -> None:
    """End a key; it is refused from now on."""
    await use.keys.revoke(caller.project_id, _key_id(id))


def _key_id(text: str) -> KeyId:
    if len(text) > 64:
        raise NotFound("there is no such key")
    return KeyId(text)


def _fields(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "mask": MaskView(
            prefix=PREFIX,
            valueLength=SECRET_DIGITS,
            maskedValuePrefix=key.prefix[len(PREFIX) :][:_SHOWN_DIGITS],
            maskedValueSuffix="",
        ),
        "createdAt": rfc3339(key.created_at),
        "lastUsed": None if key.last_used_at is None else rfc3339(key.last_used_at),
    }
