"""What an archive tells of its snapshot beside the save itself: its facts, from a row and back to one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from atolld.core.sandbox import Resources
from atolld.core.snapshot import Saved, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.errors import AtollError, InvalidArgument
from atolld.foundation.ids import ProjectId, SnapshotId, TemplateId, parse_name, parse_sandbox_id

_TOKEN = re.compile(r"[\x21-\x7e]{0,128}")
_TEMPLATE_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
# Also `<project>/<name>`, and references of images.
_TEMPLATE_NAME = re.compile(r"[0-9A-Za-z\[][0-9A-Za-z._:/@\[\]-]{0,599}")


def facts_of(snapshot: Snapshot) -> dict[str, object]:
    """The facts of `snapshot` as JSON values. They hold the agent's token: nobody else could wake what is inside."""
    bounds = snapshot.resources
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "sandbox_id": snapshot.sandbox_id,
        "template_id": snapshot.template_id,
        "template_name": snapshot.template_name,
        "runtime": snapshot.runtime,
        "cpu": bounds.cpu,
        "memory_mib": bounds.memory_mib,
        "disk_mib": bounds.disk_mib,
        "pids_max": bounds.pids_max,
        "agent_token": snapshot.agent_token,
        "secure": snapshot.secure,
        "created_at": snapshot.created_at,
    }


def draft_import(
    id: SnapshotId, project_id: ProjectId, name: str | None, facts: Mapping[str, object], saved: Saved
) -> Snapshot:
    """The row of a snapshot that is being imported.

    It keeps the id of the sandbox that it was taken of, and has no parent: what came before it stayed behind. It has no
    name but `name`: the one that it bore elsewhere may be another's here. Raises InvalidArgument.
    """
    try:
        resources = Resources(
            cpu=_number(facts["cpu"]),
            memory_mib=_whole(facts["memory_mib"]),
            disk_mib=_whole(facts["disk_mib"]),
            pids_max=_whole(facts["pids_max"]),
        )
        resources.check()
        return Snapshot(
            id=id,
            project_id=project_id,
            sandbox_id=parse_sandbox_id(_text(facts["sandbox_id"])),
            parent_id=None,
            role=SnapshotRole.SNAPSHOT,
            state=SnapshotState.CREATING,
            kind=saved.kind,
            name=name,
            template_id=TemplateId(_matching(_TEMPLATE_ID, facts["template_id"])),
            template_name=_matching(_TEMPLATE_NAME, facts["template_name"]),
            runtime=parse_name(_text(facts["runtime"]), "runtime"),
            resources=resources,
            agent_token=_matching(_TOKEN, facts["agent_token"]),
            secure=bool(facts["secure"]),
            created_at=_number(facts["created_at"]),
        )
    except (KeyError, TypeError, ValueError, AtollError) as error:
        raise InvalidArgument(f"what the archive tells of its snapshot is not as it should be: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _matching(pattern: re.Pattern[str], value: object) -> str:
    text = _text(value)
    if not pattern.fullmatch(text):
        raise ValueError("a text has a wrong form")
    return text


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)
