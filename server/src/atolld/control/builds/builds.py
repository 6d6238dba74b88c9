"""Builds: everything a caller can ask of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from atolld.control.buildmachine import BuildMachine
from atolld.control.builds.failing import FINALIZE, failure_of
from atolld.control.builds.log import BuildLog
from atolld.control.builds.records import BuildRecords, LogFiles
from atolld.control.builds.steps import Order
from atolld.control.builds.work import BuildWork
from atolld.control.tasks import uninterrupted
from atolld.control.telemetry import Telemetry
from atolld.core.build import BuildSpec, BuildState, Failure, LogEntry, Plan
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AtollError, Conflict, FailedPrecondition, InvalidArgument, Unavailable
from atolld.foundation.ids import BuildId, ProjectId, TemplateId
from atolld.images.registry import Credentials
from atolld.node.interface import NodeCapacity

log = logging.getLogger("atolld.control")

MAX_LOGS = 1000
LEVELS = ("debug", "info", "warn", "error")
CANCELLED = "it was cancelled"
INTERRUPTED = "the daemon ended while it was built; start it again: the steps that were done are kept"


@dataclass(slots=True)
class _UnderWay:
    """A build that goes on."""

    log: BuildLog
    task: asyncio.Task[None] | None = None
    cancelled: bool = False


class Builds:
    """The builds of all projects. `recover` must have returned before anything else is called."""

    def __init__(
        self,
        *,
        records: BuildRecords,
        machine: BuildMachine,
        work: BuildWork,
        logs: LogFiles,
        capacity: Callable[[], NodeCapacity],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._records = records
        self._capacity = capacity
        self._machine = machine
        self._work = work
        self._logs = logs
        self._clock = clock
        self._telemetry = telemetry
        self._under_way: dict[BuildId, _UnderWay] = {}
        self._closing = False

    async def recover(self) -> None:
        """Tell the truth of what an earlier daemon was building: it failed, and what was done is in the cache."""
        for build_id in await self._records.interrupted():
            await self._records.fail(build_id, Failure(INTERRUPTED))

    async def shutdown(self) -> None:
        """End every build; each is FAILED then."""
        self._closing = True
        await cancel_and_wait(*(one.task for one in self._under_way.values()))

    async def request(
        self, project_id: ProjectId, name: str, tags: tuple[str, ...] = (), spec: BuildSpec | None = None
    ) -> tuple[TemplateRecord, Build]:
        """A new build of the project's template `name`, WAITING for `start`; the template is made when it is new.

        Raises InvalidArgument on a bad name or tag, and on bounds that no sandbox can have or none on this machine;
        LimitExceeded.
        """
        spec = spec or BuildSpec()
        spec.resources.check()
        if reason := self._capacity().too_large(spec.resources):
            raise InvalidArgument(reason)
        return await self._records.request(project_id, name, tags, spec)

    async def start(
        self,
        project_id: ProjectId,
        template_id: TemplateId,
        build_id: BuildId,
        plan: Plan,
        *,
        credentials: Credentials | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Build:
        """Begin to build; returns at once.

        Raises NotFound, FailedPrecondition when it was started before, LimitExceeded: it can be started again then.
        """
        if self._closing:
            raise Unavailable("the daemon is stopping")
        waiting = await self._records.get(project_id, template_id, build_id)
        if waiting.state is not BuildState.WAITING:
            raise FailedPrecondition(
                f"build {build_id} is {waiting.state.value}: a build is started once; ask for a new one",
                state=waiting.state.value,
            )
        try:
            build = await self._records.begin(waiting, plan.start_command, plan.ready_command)
        except Conflict:
            raise FailedPrecondition(f"build {build_id} was started by somebody else") from None
        order = Order(project_id, build.spec, plan.force, dict(secrets or {}), plan.total)
        one = self._under_way[build_id] = _UnderWay(BuildLog(self._logs, build_id, self._clock.now))
        one.task = spawn(self._run(build, plan, order, credentials, one), name=f"build-{build_id}")
        return build

    async def get(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        """Raises NotFound."""
        return await self._records.get(project_id, template_id, build_id)

    async def cancel(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> None:
        """End it; what it ran has ended when this returns. One that has ended already is success. Raises NotFound."""
        build = await self._records.get(project_id, template_id, build_id)
        if build.state is BuildState.WAITING:
            await self._records.fail(build_id, Failure(CANCELLED))
        one = self._under_way.get(build_id)
        if one is not None:
            one.cancelled = True
            await cancel_and_wait(one.task)

    def give_up(self, build_ids: Collection[BuildId]) -> None:
        """Their template was deleted: end them, without waiting for it."""
        for build_id in build_ids:
            one = self._under_way.get(build_id)
            if one is not None and one.task is not None:
                one.cancelled = True
                one.task.cancel()

    async def logs(
        self,
        project_id: ProjectId,
        template_id: TemplateId,
        build_id: BuildId,
        *,
        offset: int = 0,
        limit: int | None = MAX_LOGS,
        level: str | None = None,
    ) -> Sequence[LogEntry]:
        """Lines from the number `offset` on (negative: of the last ones), at least as grave as `level`, which are then
        numbered among themselves. `limit` None: all of them; else at most 1,000.

        Raises NotFound.
        """
        await self._records.get(project_id, template_id, build_id)
        one = self._under_way.get(build_id)
        entries = list(one.log.entries) if one is not None else await self._read(build_id)
        if level in LEVELS:
            grave = LEVELS[LEVELS.index(level) :]
            entries = [entry for entry in entries if entry.level in grave]
        return entries[offset:] if limit is None else entries[offset:][: min(limit, MAX_LOGS)]

    async def follow(
        self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId, offset: int = 0
    ) -> AsyncIterator[LogEntry]:
        """Every line from `offset` on, as it comes, until the build has ended. Raises NotFound."""
        await self._records.get(project_id, template_id, build_id)
        one = self._under_way.get(build_id)
        if one is not None:
            async for entry in one.log.follow(offset):
                yield entry
            return
        for entry in (await self._read(build_id))[offset:]:
            yield entry

    async def _read(self, build_id: BuildId) -> list[LogEntry]:
        # Of 16 MiB: not in the loop that serves everybody.
        return await asyncio.to_thread(lambda: list(self._logs.read(build_id)))

    async def has_files(self, project_id: ProjectId, name: str) -> bool:
        """See `BuildMachine.has_files`."""
        return await self._machine.has_files(project_id, name)

    async def put_files(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        """See `BuildMachine.put_files`."""
        return await self._machine.put_files(project_id, name, pieces)

    async def finished(self, project_id: ProjectId, template_id: TemplateId, build_id: BuildId) -> Build:
        """The build when it has ended. Raises NotFound."""
        one = self._under_way.get(build_id)
        if one is not None and one.task is not None:
            await asyncio.wait([one.task])
        return await self._records.get(project_id, template_id, build_id)

    async def _run(
        self, build: Build, plan: Plan, order: Order, credentials: Credentials | None, one: _UnderWay
    ) -> None:
        started = self._clock.monotonic()
        outcome = "ok"
        try:
            built = await self._work.layers(order, plan, credentials, one.log.say)
            await self._work.complete(build, plan, built, one.log.say)
        except asyncio.CancelledError:
            outcome = "cancelled"
            # A build is nobody's child: it ends here, in words.
            await self._fail(build, Failure(CANCELLED if one.cancelled else INTERRUPTED), one.log)
        except Exception as error:
            outcome = error.code if isinstance(error, AtollError) else "internal"
            if not isinstance(error, AtollError):
                log.exception("build %s failed", build.id)
            await self._fail(build, failure_of(error), one.log)
        else:
            one.log.say("info", "[finalize] done", FINALIZE)
        finally:
            one.log.end()
            del self._under_way[build.id]
            labels = {"runtime": build.spec.runtime, "outcome": outcome}
            self._telemetry.count("builds", labels)
            self._telemetry.observe("build_seconds", self._clock.monotonic() - started, labels)

    async def _fail(self, build: Build, failure: Failure, into: BuildLog) -> None:
        into.say("error", failure.message, failure.step)
        try:
            await uninterrupted(self._records.fail(build.id, failure), name=f"fail-build-{build.id}")
        except Exception as error:
            # The next daemon finds it unfinished, and says so then.
            log.error("build %s: its failure could not be recorded: %r", build.id, error)
