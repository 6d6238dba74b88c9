"""What the daemon tells about builds and templates, as values. Unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from atoll._errors import Internal
from atoll._models import parse_time


@dataclass(frozen=True)
class BuildLog:
    """One line of a build's log. `level`: "debug", "info", "warn" or "error". `step`: its number as text, "base",
    "finalize", or None. What commands wrote is in it as it came, so it proves nothing."""

    at: datetime | None
    level: str
    message: str
    step: str | None

    @classmethod
    def from_json(cls, value: Any) -> BuildLog:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("message"), str):
            raise Internal("the daemon's answer is not a line of a build's log")
        return cls(parse_time(value.get("at")), str(value.get("level", "info")), value["message"], value.get("step"))


@dataclass(frozen=True)
class BuildFailure:
    """Why a build failed; as in `BuildError`."""

    message: str
    step: str | None
    exit_code: int | None
    last_lines: Sequence[str]


@dataclass(frozen=True)
class BuildInfo:
    """A build, which is one version of a template. state: "waiting", "building", "ready" or "failed". saved: sandboxes
    go on from a saved memory. size_bytes: once it is ready. failure: once it has failed. `raw`: the daemon's answer."""

    id: str
    template_id: str
    state: str
    tags: Sequence[str]
    created_at: datetime | None
    finished_at: datetime | None
    size_bytes: int | None
    saved: bool
    failure: BuildFailure | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Any) -> BuildInfo:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise Internal("the daemon's answer is not a build")
        failed = value.get("failure")
        failure = None
        if isinstance(failed, dict):
            lines = failed.get("last_lines") or []
            failure = BuildFailure(
                str(failed.get("message")), failed.get("step"), failed.get("exit_code"), tuple(map(str, lines))
            )
        return cls(
            id=value["id"],
            template_id=str(value.get("template_id")),
            state=str(value.get("state")),
            tags=tuple(value.get("tags") or ()),
            created_at=parse_time(value.get("created_at")),
            finished_at=parse_time(value.get("finished_at")),
            size_bytes=value.get("size_bytes"),
            saved=bool(value.get("saved")),
            failure=failure,
            raw=value,
        )


@dataclass(frozen=True)
class TemplateInfo:
    """A template. machine: it is the machine's own, and has no builds and no tags. tags: name to the id of a build.
    build: the one that its plain name means, None before one is ready. `raw`: the daemon's answer."""

    id: str
    name: str
    machine: bool
    public: bool
    built_at: datetime | None
    size_bytes: int | None
    tags: Mapping[str, str]
    build: BuildInfo | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Any) -> TemplateInfo:
        """Read the daemon's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise Internal("the daemon's answer is not a template")
        return cls(
            id=str(value.get("id")),
            name=value["name"],
            machine=bool(value.get("machine")),
            public=bool(value.get("public")),
            built_at=parse_time(value.get("built_at")),
            size_bytes=value.get("size_bytes"),
            tags=tags_from_json(value.get("tags") or ()),
            build=None if value.get("build") is None else BuildInfo.from_json(value["build"]),
            raw=value,
        )


def tags_from_json(items: Any) -> Mapping[str, str]:
    """Tag to the id of its build. Raises Internal when it is no list of tags."""
    try:
        return {str(one["tag"]): str(one["build_id"]) for one in items}
    except (TypeError, KeyError):
        raise Internal("the daemon's answer is not a list of tags") from None
