"""Templates as projects own them: a name, its builds, and tags that say which build a name means."""

from __future__ import annotations

from dataclasses import dataclass

from atolld.core.build import BuildSpec, BuildState, Built, Failure
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """One template of a project. `public`: every project may start from it, as `<project>/<name>`. `hidden`: made by a
    sandbox's own definition, named by its content, and in no list. Times are Unix seconds."""

    id: TemplateId
    project_id: ProjectId
    name: str
    public: bool
    hidden: bool
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Build:
    """One version of a template. `built` and, where its memory was saved, `save_id`: once it is READY. `failure`: once
    it is FAILED. `start_command`, `ready_command`: as asked for. `tags`: those that it was asked for with."""

    id: BuildId
    template_id: TemplateId
    project_id: ProjectId
    state: BuildState
    spec: BuildSpec
    created_at: float
    tags: tuple[str, ...] = ()
    finished_at: float | None = None
    built: Built | None = None
    save_id: SnapshotId | None = None
    failure: Failure | None = None
    start_command: str | None = None
    ready_command: str | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a template points to one of its builds since `assigned_at`."""

    template_id: TemplateId
    tag: str
    build_id: BuildId
    assigned_at: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """One time that a tag was given to a build; `sequence` grows with each of a template's. `build_created_at` and
    `build_finished_at` are the build's."""

    sequence: int
    tag: str
    build_id: BuildId
    assigned_at: float
    build_created_at: float
    build_finished_at: float | None
