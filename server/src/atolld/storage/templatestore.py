"""What control may ask of persistence about templates of projects, their builds and their tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atolld.core.build import Built, Failure
from atolld.core.snapshot import Saved
from atolld.core.template import Assignment, Build, Tag, TemplateRecord
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, TemplateId


@dataclass(frozen=True, slots=True)
class TemplatePosition:
    """A place in a list of templates: `created_at` and id of the last one seen."""

    created_at: float
    id: TemplateId


@dataclass(frozen=True, slots=True)
class TemplateQuery:
    """Which of a project's templates, newest first; hidden ones only with `hidden`."""

    project_id: ProjectId
    hidden: bool = False
    limit: int = 100
    after: TemplatePosition | None = None


@dataclass(frozen=True, slots=True)
class BuildPosition:
    """A place in a list of builds: `created_at` and id of the last one seen."""

    created_at: float
    id: BuildId


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a build: a save that is whole on disk, and whose row is still `creating`."""

    id: SnapshotId
    saved: Saved


@dataclass(frozen=True, slots=True)
class Outline:
    """A template in a list. `current`: the build that `default` means; the newest ready one when there is none; else
    the newest. `newest`: in whatever state it is. `builds`: how many there are. `tags`: by name."""

    current: Build | None
    newest: Build | None
    builds: int
    tags: tuple[Tag, ...]


class TemplateRecordStore(Protocol):
    """Templates, builds and tags. What was deleted is found by nobody, but stays while sandboxes or snapshots need it.

    Every write of a build is guarded by the state it came from and by its not being deleted: else nothing is written
    and Conflict is raised.
    """

    @property
    def changes(self) -> int:
        """Grows with every write, after it: what was read before is true as long as this stays the same. There is one
        process for a database."""
        ...

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every write."""
        ...

    async def request(
        self, draft: TemplateRecord, build: Build, max_versions: int | None = None
    ) -> tuple[TemplateRecord, Build]:
        """Insert a build in `waiting` into the project's template of that name; `draft` is inserted when there is none.

        Returns what is stored. Raises NotFound without the project, LimitExceeded when the project has `max_versions`
        builds that are ready or going on.
        """
        ...

    async def insert_build(self, build: Build) -> Build:
        """Insert a build in `waiting` into the template it names. Raises NotFound when that is not there."""
        ...

    async def find(self, id: TemplateId) -> TemplateRecord | None:
        """Of any project."""
        ...

    async def by_name(self, project_id: ProjectId, name: str) -> TemplateRecord | None:
        """The project's own, hidden ones too."""
        ...

    async def by_path(self, project_name: str, name: str) -> TemplateRecord | None:
        """Of the project with that name, which is compared in lower case; public or not."""
        ...

    async def list(self, query: TemplateQuery) -> Sequence[TemplateRecord]:
        """Newest first, at most `query.limit`."""
        ...

    async def outlines(self, ids: Sequence[TemplateId]) -> Mapping[TemplateId, Outline]:
        """What lists say of templates; those that are not there are left out."""
        ...

    async def touch(self, id: TemplateId, now: float) -> None:
        """It is used: `updated_at` is `now`. Gone is success."""
        ...

    async def set_public(self, id: TemplateId, public: bool, now: float) -> TemplateRecord:
        """Raises NotFound; FailedPrecondition for a hidden one."""
        ...

    async def delete(self, id: TemplateId, now: float) -> Sequence[BuildId]:
        """Nobody finds it any more, and its name is free; those of its builds that wait or go on have failed.

        Returns the latter. What nothing needs is `removable` from now on. Raises NotFound.
        """
        ...

    async def begin(
        self, id: BuildId, start_command: str | None, ready_command: str | None, max_versions: int | None = None
    ) -> Build:
        """waiting -> building, with what its plan says. Raises Conflict; LimitExceeded as `request`."""
        ...

    async def finish(self, id: BuildId, built: Built, now: float, memory: Memory | None = None) -> Build:
        """building -> ready, with the save of its memory if there is one, which becomes ready too; and the tags that it
        was asked for with (`default` when with none) are given to it, in one transaction.

        A tag stays where it is when the build it means was asked for later than this one. Raises Conflict, also when
        the save is not `creating`.
        """
        ...

    async def fail(self, id: BuildId, failure: Failure, now: float) -> Build:
        """waiting or building -> failed. Raises Conflict."""
        ...

    async def build(self, id: BuildId, *, deleted: bool = False) -> Build | None:
        """Of any project, in any state; with `deleted`, also one that is only still needed."""
        ...

    async def builds(
        self, template_id: TemplateId, *, limit: int = 100, after: BuildPosition | None = None
    ) -> Sequence[Build]:
        """Newest first, in any state."""
        ...

    async def resolve(self, template_id: TemplateId, tag: str) -> Build | None:
        """The ready build that the tag means; `tag` may be a build's id."""
        ...

    async def delete_build(self, id: BuildId, now: float) -> None:
        """Nobody finds it any more. Raises NotFound; FailedPrecondition while a tag means it or before it has ended."""
        ...

    async def delete_surplus(self, keep: int, now: float) -> Sequence[BuildId]:
        """Delete, as `delete_build`, the builds of every template that are not among its newest `keep` of those that no
        tag means and that are ready, or have failed; returns them.

        Never the newest ready one of a template, nor one that a live sandbox or a snapshot began with, or that a pool
        is of.
        """
        ...

    async def interrupted(self, waiting_before: float) -> Sequence[Build]:
        """For the start of a daemon: those in `building`, and those in `waiting` since before that time."""
        ...

    async def pinned(self) -> Sequence[Build]:
        """Every ready build whose layers must stay, of all projects, deleted ones included."""
        ...

    async def removable(self) -> Sequence[BuildId]:
        """Deleted builds that no live sandbox and no snapshot began with, and no other needs."""
        ...

    async def remove(self, id: BuildId) -> None:
        """Forget a removable build: its save is `deleting`, and a deleted template goes with its last build. Gone is
        success. Raises Conflict when something needs it again."""
        ...

    async def unused(self, before: float) -> Sequence[TemplateId]:
        """Hidden templates all of whose builds ended before that time, and which no row of a sandbox or snapshot names,
        ended ones included."""
        ...

    async def assign(
        self, template_id: TemplateId, tags: Sequence[str], build_id: BuildId, now: float
    ) -> Sequence[Tag]:
        """Give tags to a ready build of the template, whichever they meant before. Raises NotFound,
        FailedPrecondition when the build is not ready."""
        ...

    async def untag(self, template_id: TemplateId, tags: Sequence[str]) -> None:
        """Remove tags, all or none; their builds stay. Raises NotFound, naming the first that is not there."""
        ...

    async def tags(self, template_id: TemplateId) -> Sequence[Tag]:
        """By name."""
        ...

    async def history(
        self, template_id: TemplateId, tag: str, *, limit: int = 100, before: int | None = None
    ) -> Sequence[Assignment]:
        """Every time the tag was given to a build that is still there, newest first, with sequences below `before`.
        None once the tag was removed: it begins anew."""
        ...
