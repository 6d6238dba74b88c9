"""Templates, to be read: lists, one, and what an alias stands for."""

from __future__ import annotations

import math
import uuid
from typing import Literal
from urllib.parse import unquote

from fastapi import APIRouter
from pydantic import BaseModel

from atolld.api.e2b.options import ENVD_VERSION
from atolld.api.services import Caller, Services, Use
from atolld.control.templates import Template
from atolld.core.project import Principal
from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import NotFound

router = APIRouter(tags=["templates"])

DEFAULT_TAG = "default"
_BUILDS = uuid.UUID("6f1d1c1e-7a53-5d0a-9c53-1d8f0f9b2a40")


class BuildView(BaseModel):
    """A finished build."""

    buildID: str
    status: Literal["ready"] = "ready"
    createdAt: str
    updatedAt: str
    finishedAt: str
    cpuCount: int
    memoryMB: int
    diskSizeMB: int
    envdVersion: str = ENVD_VERSION


class TemplateView(BaseModel):
    """A template. Use is not counted per template, so `spawnCount` is 0 and `lastSpawnedAt` is null."""

    templateID: str
    buildID: str
    cpuCount: int
    memoryMB: int
    diskSizeMB: int
    public: bool = True
    aliases: list[str]
    names: list[str]
    createdAt: str
    updatedAt: str
    createdBy: None = None
    lastSpawnedAt: None = None
    spawnCount: int = 0
    buildCount: int = 1
    envdVersion: str = ENVD_VERSION
    buildStatus: Literal["ready"] = "ready"
    isDefault: bool = True

    @staticmethod
    def of(template: Template) -> TemplateView:
        """The view of `template`."""
        return TemplateView(**_fields(template))


class TemplateWithBuilds(TemplateView):
    """A template and its builds: the one it was last built by."""

    builds: list[BuildView]

    @staticmethod
    def with_builds(template: Template) -> TemplateWithBuilds:
        """The view of `template`."""
        bounds, built = template.resources, rfc3339(template.built_at)
        build = BuildView(
            buildID=_build_id(template),
            createdAt=built,
            updatedAt=built,
            finishedAt=built,
            cpuCount=math.ceil(bounds.cpu),
            memoryMB=bounds.memory_mib,
            diskSizeMB=bounds.disk_mib,
        )
        return TemplateWithBuilds(**_fields(template), builds=[build])


class AliasView(BaseModel):
    """What an alias stands for."""

    templateID: str
    public: bool = True


@router.get("/templates")
async def list_templates(use: Use, caller: Caller) -> list[TemplateView]:
    """Templates a sandbox can be created from."""
    return [TemplateView.of(template) for template in await use.templates.list(caller.project_id)]


@router.get("/v2/templates")
async def list_templates_v2(use: Use, caller: Caller) -> list[TemplateView]:
    """As the first form; there are few, so all are on one page."""
    return [TemplateView.of(template) for template in await use.templates.list(caller.project_id)]


@router.get("/default-templates")
async def default_templates(use: Use, caller: Caller) -> list[TemplateView]:
    """Templates that come with the platform: all there are, so far."""
    return [TemplateView.of(template) for template in await use.templates.list(caller.project_id)]


@router.get("/templates/aliases/{alias}")
async def get_alias(alias: str, use: Use, caller: Caller) -> AliasView:
    """Whether a template of that name is there."""
    return AliasView(templateID=(await find_template(use, caller, unquote(alias))).id)


@router.get("/templates/{id}")
async def get_template(id: str, use: Use, caller: Caller) -> TemplateWithBuilds:
    """One template."""
    return TemplateWithBuilds.with_builds(await find_template(use, caller, unquote(id)))


async def find_template(use: Services, caller: Principal, text: str) -> Template:
    """The template that `text` names: its id, its name, `name:default`, or `<project>/name`.

    Raises NotFound.
    """
    wanted, _, tag = text.strip().lower().partition(":")
    space, _, name = wanted.rpartition("/")
    known = await use.templates.list(caller.project_id)
    found = next((template for template in known if name in (template.name, template.id)), None)
    if found is None or tag not in ("", DEFAULT_TAG) or (space and space != await namespace_of(use, caller)):
        raise NotFound(f"template '{text[:80]}' not found (known: {', '.join(one.name for one in known) or 'none'})")
    return found


async def namespace_of(use: Services, caller: Principal) -> str:
    """The caller's project, as it stands before the names of what is the project's own."""
    return (await use.projects.get(caller.project_id)).name.lower()


def _fields(template: Template) -> dict[str, object]:
    bounds, built = template.resources, rfc3339(template.built_at)
    return {
        "templateID": template.id,
        "buildID": _build_id(template),
        "cpuCount": math.ceil(bounds.cpu),
        "memoryMB": bounds.memory_mib,
        "diskSizeMB": bounds.disk_mib,
        "aliases": [template.name],
        "names": [template.name],
        "createdAt": built,
        "updatedAt": built,
    }


def _build_id(template: Template) -> str:
    # Clients expect a UUID; the same build has the same one.
    return str(uuid.uuid5(_BUILDS, f"{template.id} {template.built_at}"))
