"""What E2B's clients get of templates. Field names are the wire's."""

from __future__ import annotations

import math
import uuid

from pydantic import BaseModel

from atolld.api.e2b.buildviews import STATUS, Status
from atolld.api.e2b.options import ENVD_VERSION
from atolld.api.e2b.templatenames import shown_names
from atolld.control.templates import Template
from atolld.core.build import BuildState
from atolld.core.sandbox import Resources
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.clock import rfc3339
from atolld.storage.templatestore import Outline

_BUILDS = uuid.UUID("6f1d1c1e-7a53-5d0a-9c53-1d8f0f9b2a40")


class BuildView(BaseModel):
    """One build. `finishedAt` is left out as long as it has not ended."""

    buildID: str
    status: Status
    createdAt: str
    updatedAt: str
    finishedAt: str | None = None
    cpuCount: int
    memoryMB: int
    diskSizeMB: int
    envdVersion: str = ENVD_VERSION

    @staticmethod
    def of(build: Build) -> BuildView:
        """The view of a build of a project."""
        return BuildView(
            buildID=build.id,
            status=STATUS[build.state],
            createdAt=rfc3339(build.created_at),
            updatedAt=rfc3339(build.finished_at or build.created_at),
            finishedAt=None if build.finished_at is None else rfc3339(build.finished_at),
            **_bounds(build.spec.resources),
        )

    @staticmethod
    def of_machine(template: Template) -> BuildView:
        """The build that one of the machine's own templates comes from."""
        built = rfc3339(template.built_at)
        return BuildView(
            buildID=machine_build_id(template),
            status="ready",
            createdAt=built,
            updatedAt=built,
            finishedAt=built,
            **_bounds(template.resources),
        )


class TemplateView(BaseModel):
    """A template. Use is not counted per template, so `spawnCount` is 0 and `lastSpawnedAt` is null. `buildID`: of the
    build that `default` means, else of the newest one; the bounds are its, `buildStatus` is the newest one's.
    `isDefault`: the machine's own."""

    templateID: str
    buildID: str
    cpuCount: int
    memoryMB: int
    diskSizeMB: int
    public: bool
    aliases: list[str]
    names: list[str]
    createdAt: str
    updatedAt: str
    createdBy: None = None
    lastSpawnedAt: None = None
    spawnCount: int = 0
    buildCount: int
    envdVersion: str = ENVD_VERSION
    buildStatus: Status
    isDefault: bool

    @staticmethod
    def of_machine(template: Template) -> TemplateView:
        """The view of one of the machine's own."""
        return TemplateView(**_of_machine(template))

    @staticmethod
    def of(record: TemplateRecord, outline: Outline, namespace: str) -> TemplateView:
        """The view of one of the project `namespace`."""
        return TemplateView(**_of_project(record, outline, namespace))


class TemplateWithBuilds(TemplateView):
    """A template and a page of its builds, newest first."""

    builds: list[BuildView]

    @staticmethod
    def with_machine_build(template: Template) -> TemplateWithBuilds:
        """The view of one of the machine's own."""
        return TemplateWithBuilds(**_of_machine(template), builds=[BuildView.of_machine(template)])

    @staticmethod
    def with_builds(
        record: TemplateRecord, outline: Outline, builds: list[Build], namespace: str
    ) -> TemplateWithBuilds:
        """The view of one of the project `namespace`."""
        return TemplateWithBuilds(
            **_of_project(record, outline, namespace), builds=[BuildView.of(build) for build in builds]
        )


class AliasView(BaseModel):
    """What an alias stands for."""

    templateID: str
    public: bool


class UpdatedTemplate(BaseModel):
    """What a template is called by who may use it."""

    names: list[str]


def machine_build_id(template: Template) -> str:
    """A UUID, as clients expect; the same build has the same one."""
    return str(uuid.uuid5(_BUILDS, f"{template.id} {template.built_at}"))


def _of_machine(template: Template) -> dict[str, object]:
    built = rfc3339(template.built_at)
    return {
        "templateID": template.id,
        "buildID": machine_build_id(template),
        **_bounds(template.resources),
        "public": True,
        "aliases": [template.name],
        "names": [template.name],
        "createdAt": built,
        "updatedAt": built,
        "buildCount": 1,
        "buildStatus": STATUS[BuildState.READY],
        "isDefault": True,
    }


def _of_project(record: TemplateRecord, outline: Outline, namespace: str) -> dict[str, object]:
    current, newest = outline.current, outline.newest
    return {
        "templateID": record.id,
        "buildID": str(uuid.UUID(int=0)) if current is None else current.id,
        **_bounds(Resources() if current is None else current.spec.resources),
        "public": record.public,
        "aliases": [record.name],
        "names": shown_names(record.name, namespace),
        "createdAt": rfc3339(record.created_at),
        "updatedAt": rfc3339(record.updated_at),
        "buildCount": outline.builds,
        "buildStatus": STATUS[BuildState.WAITING if newest is None else newest.state],
        "isDefault": False,
    }


def _bounds(bounds: Resources) -> dict[str, int]:
    return {"cpuCount": math.ceil(bounds.cpu), "memoryMB": bounds.memory_mib, "diskSizeMB": bounds.disk_mib}
