"""Between rows and values: templates, builds and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from atolld.core.build import BuildSpec, BuildState, Built, Failure, ImageConfig
from atolld.core.defaults import GuestDefaults
from atolld.core.template import Build, Tag, TemplateRecord
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId
from atolld.storage.rows import resource_columns, resources_from_row


def template_to_row(template: TemplateRecord) -> dict[str, object]:
    """The columns of a template that is inserted."""
    return {
        "id": template.id,
        "project_id": template.project_id,
        "name": template.name,
        "public": template.public,
        "hidden": template.hidden,
        "created_at": template.created_at,
        "updated_at": template.updated_at,
    }


def template_from_row(row: Row[Any]) -> TemplateRecord:
    """A row of `templates` that is not deleted."""
    return TemplateRecord(
        id=TemplateId(row.id),
        project_id=ProjectId(row.project_id),
        name=row.name,
        public=row.public,
        hidden=row.hidden,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def build_to_row(build: Build) -> dict[str, object]:
    """The columns of a build that is inserted, in `waiting`."""
    return {
        "id": build.id,
        "template_id": build.template_id,
        "project_id": build.project_id,
        "state": BuildState.WAITING.value,
        "runtime": build.spec.runtime,
        **resource_columns(build.spec.resources),
        "tags": list(build.tags),
        "start_command": build.start_command,
        "ready_command": build.ready_command,
        "created_at": build.created_at,
    }


def build_from_row(row: Row[Any]) -> Build:
    """A row of `template_builds`."""
    return Build(
        id=BuildId(row.id),
        template_id=TemplateId(row.template_id),
        project_id=ProjectId(row.project_id),
        state=BuildState(row.state),
        spec=BuildSpec(row.runtime, resources_from_row(row)),
        created_at=row.created_at,
        tags=tuple(row.tags),
        finished_at=row.finished_at,
        built=None if row.built is None else built_from_json(row.built),
        save_id=None if row.save_id is None else SnapshotId(row.save_id),
        failure=None if row.failure is None else failure_from_json(row.failure),
        start_command=row.start_command,
        ready_command=row.ready_command,
    )


def tag_from_row(row: Row[Any]) -> Tag:
    """A row of `template_tags`."""
    return Tag(TemplateId(row.template_id), row.tag, BuildId(row.build_id), row.assigned_at)


def built_to_json(built: Built) -> dict[str, object]:
    """`built` as JSON values."""
    config = asdict(built.config)
    return {
        "layers": list(built.layers),
        "size_bytes": built.size_bytes,
        "defaults": {
            "user": built.defaults.user,
            "workdir": built.defaults.workdir,
            "envs": dict(built.defaults.envs),
        },
        "config": {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()},
    }


def built_from_json(stored: Mapping[str, Any]) -> Built:
    """What `built_to_json` made; what an older version did not write has its default."""
    config: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored.get("config", {}).items()
        if name in ImageConfig.__dataclass_fields__
    }
    return Built(
        layers=tuple(stored["layers"]),
        defaults=GuestDefaults(**stored.get("defaults", {})),
        config=ImageConfig(**config),
        size_bytes=stored.get("size_bytes", 0),
    )


def failure_to_json(failure: Failure) -> dict[str, object]:
    """`failure` as JSON values."""
    return {**asdict(failure), "last_lines": list(failure.last_lines)}


def failure_from_json(stored: Mapping[str, Any]) -> Failure:
    """What `failure_to_json` made."""
    return Failure(**{**stored, "last_lines": tuple(stored.get("last_lines", ()))})
