"""What E2B's clients get of builds. Field names are the wire's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel

from atolld.api.e2b.logs import LEVELS, Level
from atolld.core.build import BuildState, Failure, LogEntry
from atolld.core.template import Build
from atolld.foundation.clock import rfc3339

Status = Literal["building", "waiting", "ready", "error"]

STATUS: dict[BuildState, Status] = {
    BuildState.WAITING: "waiting",
    BuildState.BUILDING: "building",
    BuildState.READY: "ready",
    BuildState.FAILED: "error",
}


class RequestedBuild(BaseModel):
    """A build that waits for its steps. `buildID` is this build's."""

    templateID: str
    buildID: str
    public: bool
    names: list[str]
    tags: list[str]
    aliases: list[str]


class BuildLogEntry(BaseModel):
    """One line of a build's log. `step`: `base`, `finalize`, or the number of a step, counted from 1."""

    timestamp: str
    message: str
    level: Level
    step: str | None = None

    @staticmethod
    def of(entry: LogEntry) -> BuildLogEntry:
        """The view of `entry`."""
        level = next((known for known in LEVELS if known == entry.level), "info")
        return BuildLogEntry(timestamp=rfc3339(entry.at), message=entry.message, level=level, step=entry.step)


class BuildReason(BaseModel):
    """Why a build failed. `logEntries`: the last lines of the command that failed."""

    message: str
    step: str | None = None
    logEntries: list[BuildLogEntry]

    @staticmethod
    def of(failure: Failure, at: float) -> BuildReason:
        """The view of a failure at that time."""
        lines = [LogEntry(at, "error", line, failure.step) for line in failure.last_lines]
        return BuildReason(message=failure.message, step=failure.step, logEntries=[*map(BuildLogEntry.of, lines)])


class BuildStatusView(BaseModel):
    """How a build stands. `logEntries`: its lines from the asked offset on; `logs` is always empty, as with E2B."""

    templateID: str
    buildID: str
    status: Status
    logs: list[str]
    logEntries: list[BuildLogEntry]
    reason: BuildReason | None = None

    @staticmethod
    def of(build: Build, lines: Iterable[LogEntry]) -> BuildStatusView:
        """The view of `build` with these lines."""
        ended_at = build.finished_at if build.finished_at is not None else build.created_at
        return BuildStatusView(
            templateID=build.template_id,
            buildID=build.id,
            status=STATUS[build.state],
            logs=[],
            logEntries=[BuildLogEntry.of(line) for line in lines],
            reason=None if build.failure is None else BuildReason.of(build.failure, ended_at),
        )


class BuildLogs(BaseModel):
    """Lines."""

    logs: list[BuildLogEntry]


def selected(
    lines: Sequence[LogEntry], cursor_ms: int | None, direction: Literal["forward", "backward"]
) -> list[LogEntry]:
    """Those from `cursor_ms` (Unix milliseconds) on in `direction`, in that order."""
    if direction == "forward":
        return [line for line in lines if cursor_ms is None or _millis(line) >= cursor_ms]
    return [line for line in reversed(lines) if cursor_ms is None or _millis(line) <= cursor_ms]


def _millis(line: LogEntry) -> int:
    return int(line.at * 1000)
