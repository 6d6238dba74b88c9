"""Tasks and cleanup have one door each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger("atolld.tasks")

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], *, name: str, report: bool = True) -> asyncio.Task[T]:
    """Run `work` as a task that is kept alive and whose failure is logged, never lost.

    `report` False: the caller takes the result itself, so a failure is not logged as well.

    `asyncio.create_task` alone keeps only a weak reference and tells of a failure only when the task is
    collected, if at all.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_finished if report else _running.discard)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        log.error("task %s failed: %s", task.get_name(), error, exc_info=error)


async def cancel_and_wait(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until each has ended; their own failures were logged by `spawn`."""
    present = [task for task in tasks if task is not None]
    for task in present:
        task.cancel()
    if present:
        await asyncio.wait(present)


async def to_the_end(work: Coroutine[Any, Any, T], *, name: str, on_cancel: Callable[[], object] | None = None) -> T:
    """`work`, waited for also by a caller that is cancelled: a thread, say, cannot be stopped half way.

    `on_cancel`: tells it that nobody wants its result any more.
    """
    task = spawn(work, name=name, report=False)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


Undo = Callable[[], Awaitable[None] | None]


class CleanupStack:
    """Undo steps run last first; each is run although another failed, and all failures are told together.

    An undo must be idempotent and take "already gone" as success. Use as an async context manager around a build-up;
    call `keep()` when all of it stands.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Undo]] = []

    def push(self, what: str, undo: Undo) -> None:
        """Add `undo`; `what` names the thing in errors."""
        self._steps.append((what, undo))

    def keep(self) -> None:
        """Forget all undo steps: what was built stays."""
        self._steps.clear()

    async def undo_all(self) -> None:
        """Run every undo, last first.

        Raises ExceptionGroup with all failures, after every step was tried.
        """
        failures: list[Exception] = []
        while self._steps:
            what, undo = self._steps.pop()
            try:
                result = undo()
                if result is not None:
                    await result
            except Exception as error:
                error.add_note(f"while undoing: {what}")
                failures.append(error)
        if failures:
            raise ExceptionGroup("cleanup failed", failures)

    async def __aenter__(self) -> CleanupStack:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self.undo_all()
            return
        try:
            # Shielded: a cancelled build-up must still be taken down in full.
            await asyncio.shield(spawn(self.undo_all(), name="cleanup"))
        except Exception as failure:
            error.add_note(f"and its cleanup failed: {failure!r}")
