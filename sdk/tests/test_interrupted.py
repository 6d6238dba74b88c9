"""What is interrupted or cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from sdk.tests.fake_daemon import FakeDaemon, Script

from atoll import AsyncSandbox, Config, Event, Sandbox
from atoll._threads import Job


async def test_a_cancelled_create_leaves_no_sandbox(daemon: FakeDaemon, config: Config) -> None:
    daemon.hold_creates = threading.Event()
    creating = asyncio.get_running_loop().create_task(AsyncSandbox.create(config=config))
    await asyncio.to_thread(daemon.create_seen.wait, 10)
    creating.cancel()
    daemon.hold_creates.set()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert [seen.method for seen in daemon.seen] == ["POST", "DELETE"]
    assert daemon.sandboxes == {}


def test_an_interrupted_create_leaves_no_sandbox(daemon: FakeDaemon, config: Config) -> None:
    hold = daemon.hold_creates = threading.Event()

    def interrupt() -> None:
        daemon.create_seen.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        hold.set()

    interrupter = threading.Thread(target=interrupt)
    # Whoever runs the tests in the background (`make test &`) has the shell ignore it for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            Sandbox.create(config=config)
        interrupter.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [seen.method for seen in daemon.seen] == ["POST", "DELETE"]
    assert daemon.sandboxes == {}


def test_interrupted_before_it_began_it_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    done: list[str] = []
    early, late = (Job(done.append, name, starts=False) for name in ("early", "late"))
    early.start()
    late.start()
    assert early.withdraw()
    for thread in started:
        thread.run()
    assert not late.withdraw()
    assert done == ["late"]


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_cancelled_run_kills_its_process(is_answered: bool, daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    answer = threading.Event()
    if is_answered:
        answer.set()
    daemon.scripts["x"] = Script(hold=threading.Event(), hold_start=answer)
    running = asyncio.get_running_loop().create_task(sandbox.run("x", stdin="input"))
    await asyncio.to_thread((daemon.typed if is_answered else daemon.started).wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    answer.set()
    assert daemon.processes[100].signals == ["SIGKILL"]


async def test_a_cancelled_read_loses_nothing(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    hold = threading.Event()
    daemon.scripts["x"] = Script(output=[("stdout", b"a"), ("stderr", b"b")], hold=hold)
    process = await sandbox.start("x")
    events = [await process.__anext__(), await process.__anext__()]

    async def read() -> Event:
        return await process.__anext__()

    reading = asyncio.get_running_loop().create_task(read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    hold.set()
    events += [event async for event in process]
    assert [type(event).__name__ for event in events] == ["Stdout", "Stderr", "Exit"]
    assert len(daemon.requests_to("/Connect")) == 1


async def test_clients_are_closed_with_their_loop(daemon: FakeDaemon, config: Config) -> None:
    def in_a_loop_of_its_own() -> None:
        async def work() -> None:
            await (await AsyncSandbox.create(config=config)).kill()

        asyncio.run(work(), debug=True)

    # Warnings are errors here: an unclosed connection would be one.
    await asyncio.to_thread(in_a_loop_of_its_own)
    assert daemon.sandboxes == {}


def test_fifty_threads_share_one_pool(daemon: FakeDaemon, config: Config) -> None:
    made: list[Sandbox] = []
    threads = [threading.Thread(target=lambda: made.append(Sandbox.create(config=config))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({sandbox.id for sandbox in made}) == 50
