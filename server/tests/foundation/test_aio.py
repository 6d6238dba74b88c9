from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from atolld.foundation.aio import CleanupStack, cancel_and_wait, spawn, to_the_end


async def test_spawn_keeps_the_task_and_reports_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("told")

    spawn(fail(), name="doomed")
    gc.collect()
    with caplog.at_level(logging.ERROR, "atolld.tasks"):
        for _ in range(5):
            await asyncio.sleep(0)
    assert "doomed" in caplog.text
    assert "told" in caplog.text


async def test_spawn_without_report_leaves_the_failure_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("told")

    with caplog.at_level(logging.ERROR, "atolld.tasks"), pytest.raises(ValueError, match="told"):
        await spawn(fail(), name="doomed", report=False)
    assert caplog.text == ""


async def test_cancel_and_wait() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("work")

    task = spawn(work(), name="work")
    await asyncio.sleep(0)
    await cancel_and_wait(task, None)
    assert ended == ["work"]
    await cancel_and_wait(task)
    await cancel_and_wait(None)


async def test_to_the_end_outlives_its_caller() -> None:
    go_on = asyncio.Event()
    done: list[str] = []

    async def work() -> str:
        await go_on.wait()
        done.append("done")
        return "result"

    caller = spawn(to_the_end(work(), name="work"), name="caller", report=False)
    for _ in range(3):
        await asyncio.sleep(0)
    caller.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    # It was cancelled and still waits.
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == ["done"]
    assert await to_the_end(work(), name="again") == "result"


async def test_cleanup_runs_last_first_and_only_on_failure_or_request() -> None:
    done: list[str] = []

    async def later(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    with pytest.raises(KeyError):
        async with CleanupStack() as undo:
            undo.push("first", lambda: done.append("first"))
            undo.push("second", lambda: later("second"))
            raise KeyError
    assert done == ["second", "first"]

    done.clear()
    async with CleanupStack() as undo:
        undo.push("kept", lambda: done.append("kept"))
        undo.keep()
    assert done == []

    async with CleanupStack() as undo:
        undo.push("at the end", lambda: done.append("at the end"))
    assert done == ["at the end"]


async def test_cleanup_tells_all_failures_after_trying_every_step() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("busy")

    stack = CleanupStack()
    stack.push("mount", fail)
    stack.push("fine", lambda: done.append("fine"))
    stack.push("namespace", fail)
    with pytest.raises(ExceptionGroup) as caught:
        await stack.undo_all()
    assert done == ["fine"]
    notes = [note for error in caught.value.exceptions for note in error.__notes__]
    assert notes == ["while undoing: namespace", "while undoing: mount"]


async def test_failed_cleanup_does_not_hide_the_error() -> None:
    def fail() -> None:
        raise OSError("busy")

    with pytest.raises(KeyError) as caught:
        async with CleanupStack() as undo:
            undo.push("mount", fail)
            raise KeyError
    assert any("busy" in note for note in caught.value.__notes__)


async def test_cancelled_build_up_is_taken_down_in_full() -> None:
    done: list[str] = []
    entered = asyncio.Event()

    async def slowly(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        done.append(name)

    async def build() -> None:
        async with CleanupStack() as undo:
            undo.push("one", lambda: slowly("one"))
            undo.push("two", lambda: slowly("two"))
            entered.set()
            await asyncio.Event().wait()

    task = spawn(build(), name="build")
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # A second cancel, while the cleanup runs, must not stop it.
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert done == ["two", "one"]
    assert task.cancelled()
