"""What a new sandbox starts from: a template, or a snapshot under its id or name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Protocol

from atolld.control.projecttemplates import ProjectTemplate
from atolld.control.templates import Templates
from atolld.core.sandbox import Resources, SandboxSpec
from atolld.core.snapshot import Snapshot, check_snapshot_ref
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import ProjectId
from atolld.images.reference import parse_reference

DEFAULT_RUNTIME = SandboxSpec().runtime


class SnapshotSource(Protocol):
    """What is asked of `atolld.control.snapshots.Snapshots` here."""

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        """Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """What a sandbox can be started from. `runtime` and `resources` are those of a sandbox that asks for none.

    A snapshot (`is_snapshot`) has them fixed: its memory and disk were made for them. So has a template whose processes
    run already (`has_memory`).
    """

    name: str
    runtime: str
    resources: Resources
    is_snapshot: bool
    has_memory: bool = False

    def settle(
        self,
        *,
        runtime: str | None,
        cpu: float | None,
        memory_mib: int | None,
        disk_mib: int | None,
        pids_max: int | None,
    ) -> tuple[str, Resources]:
        """Runtime and bounds of a sandbox that asks for these; None: asks for nothing.

        Raises InvalidArgument when those of a snapshot, or of a saved memory, would have to differ from what it was
        taken with.
        """
        bounds = {"cpu": cpu, "memory_mib": memory_mib, "disk_mib": disk_mib, "pids_max": pids_max}
        asked = {name: value for name, value in bounds.items() if value is not None}
        if self.is_snapshot or self.has_memory:
            what = f"snapshot {self.name!r} was" if self.is_snapshot else f"the memory of template {self.name!r} was"
            taken_with: dict[str, object] = {"runtime": self.runtime, **asdict(self.resources)}
            for name, value in {**({} if runtime is None else {"runtime": runtime}), **asked}.items():
                if value != taken_with[name]:
                    raise InvalidArgument(f"{name} is {value}, but {what} taken with {taken_with[name]}: leave it out")
        return runtime or self.runtime, replace(self.resources, **asked)  # type: ignore[arg-type]


async def resolve_template(templates: Templates, snapshots: SnapshotSource, project_id: ProjectId, name: str) -> Origin:
    """What `name` (a template's, an image's, or a snapshot's name or id) stands for, looked for in this order.

    Snapshots, which lie in the database, are asked only when there is no such template.
    Raises InvalidArgument when it can be neither, NotFound when there is neither.
    """
    may_be_snapshot = _check(name)
    try:
        template = await templates.get(project_id, name)
    except (InvalidArgument, NotFound) as error:
        if not may_be_snapshot:
            raise
        no_template = error
    else:
        if isinstance(template, ProjectTemplate):
            # By the name that was asked for: that of the template alone is another version.
            has_memory = template.memory is not None
            return Origin(name, template.runtime, template.resources, is_snapshot=False, has_memory=has_memory)
        return Origin(template.name, DEFAULT_RUNTIME, template.resources, is_snapshot=False)
    try:
        snapshot = await snapshots.get(project_id, name)
    except NotFound:
        raise NotFound(f"{no_template.message}, and no snapshot of that name or id either") from None
    return Origin(snapshot.name or snapshot.id, snapshot.runtime, snapshot.resources, is_snapshot=True)


def _check(name: str) -> bool:
    """Whether `name` has the form of a snapshot's, as every template's has, too; else it is an image's reference."""
    try:
        check_snapshot_ref(name)
    except InvalidArgument:
        try:
            parse_reference(name)
        except InvalidArgument:
            raise InvalidArgument(
                f"template is {name[:80]!r}; the name of a template, the reference of an image, or the name or id of a "
                "snapshot is expected"
            ) from None
        return False
    return True
