"""What builds need of persistence and of templates, one protocol a noun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from atolld.core.build import BuildSpec, Built, Failure, LogEntry
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId


class BuildRecords(Protocol):
    """The rows of templates and their builds; `atolld.control.templatebuilds.TemplateBuilds` is one."""

    async def request(
        self,
        project_id: ProjectId,
        name: str,
        tags: tuple[str, ...],
        spec: BuildSpec,
        *,
        hidden: bool = False,
    ) -> tuple[TemplateRecord, Build]:
        """A new build, WAITING, of the project's template `name`, which is made when there is none.

        Raises InvalidArgument on a bad name or tag, LimitExceeded.
        """
        ...

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        """Raises NotFound."""
        ...

    async def begin(self, build: Build, start_command: str | None, ready_command: str | None) -> Build:
        """WAITING to BUILDING. Raises Conflict when it is not WAITING any more, LimitExceeded."""
        ...

    async def finish(self, build_id: BuildId, built: Built, save_id: SnapshotId | None) -> Build:
        """BUILDING to READY, with the save of its memory, its layers kept, its tags pointing to it. Raises Conflict."""
        ...

    async def fail(self, build_id: BuildId, failure: Failure) -> None:
        """WAITING or BUILDING to FAILED; one that has ended stays as it is."""
        ...

    async def ready(self, project_id: ProjectId, name: str) -> tuple[TemplateRecord, Build] | None:
        """The project's template of that name, hidden ones too, with the build that it means; None when there is none
        or not all of its layers are there."""
        ...

    async def interrupted(self) -> Sequence[BuildId]:
        """Those that an earlier daemon was at."""
        ...


class LogFiles(Protocol):
    """Where logs are kept; `atolld.storage.buildlogs.BuildLogs` is one, and documents it."""

    def append(self, build_id: BuildId, entry: LogEntry) -> bool: ...

    def close(self, build_id: BuildId) -> None: ...

    def read(self, build_id: BuildId) -> Iterable[LogEntry]: ...
