"""What goes wrong, or comes at a bad moment, around pauses: each ends in a state with a name and nothing lost."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from atoll import AtollError, Config, FailedPrecondition, PtyOutput, Sandbox
from e2e.census import Census
from e2e.conftest import Daemon
from e2e.inside import Keeper, launch, wait_until

MB = 1000**2


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(daemon: Daemon) -> Iterator[None]:
    """After all tests of this file the host is as it was before them; pools may have become smaller."""
    before = daemon.settle()
    yield
    deadline = time.monotonic() + 30
    while extra := _extra(before, daemon.census()):
        assert time.monotonic() < deadline, f"left on the host: {extra}"
        time.sleep(0.2)


def _extra(before: Census, now: Census) -> dict[str, object]:
    more = {kind: count for kind, count in now.counts().items() if count > before.counts()[kind]}
    return {kind: now.difference(before).get(kind) for kind in more if kind != "rules"}


@pytest.fixture
def keeper(client: Config) -> Iterator[Keeper]:
    """A sandbox with a number in its memory."""
    with Sandbox.create(timeout_s=600, config=client) as sandbox:
        keeper = Keeper.start(sandbox)
        keeper.set(41)
        yield keeper


def at_once(*calls: Callable[[], object]) -> list[Future[object]]:
    """All of them in threads, begun together; returns when all have ended."""
    gate = threading.Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [pool.submit(one, call) for call in calls]


def test_pausing_twice(keeper: Keeper) -> None:
    sandbox = keeper.sandbox
    outcomes = at_once(sandbox.pause, sandbox.pause)
    assert sorted(bool(future.result()) for future in outcomes) == [False, True]
    assert sandbox.pause() is False
    assert sandbox.info().state == "paused"
    keeper.check()


def test_resuming_twice_and_twenty_at_once(keeper: Keeper) -> None:
    sandbox = keeper.sandbox
    sandbox.pause()
    assert sandbox.resume() is True
    assert sandbox.resume() is False
    sandbox.pause()
    outcomes = at_once(*[sandbox.resume] * 10, *[lambda: keeper.check() and True] * 10)
    assert all(future.result() in (True, False) for future in outcomes)
    assert sandbox.info().state == "running"
    keeper.check()


def test_a_kill_during_a_pause(client: Config, daemon: Daemon) -> None:
    sandbox = Sandbox.create(config=client)
    launch(sandbox, "keeper", Keeper.PORT)
    with ThreadPoolExecutor(1) as pool:
        pausing = pool.submit(sandbox.pause)
        wait_until(lambda: sandbox.info().state != "running", 20, "it is being paused")
        assert sandbox.kill()
        failure = pausing.exception(60)
    assert failure is None or isinstance(failure, AtollError)
    assert sandbox.is_running() is False
    events = [event["type"] for event in daemon.events(sandbox.id)]
    assert events[-1] == "sandbox.killed"


def test_a_pause_during_an_upload(keeper: Keeper, tmp_path: Path) -> None:
    sandbox, source = keeper.sandbox, tmp_path / "large"
    source.write_bytes(bytes(range(250)) * (200 * MB // 250))
    begun = threading.Event()

    def look(done: int, _total: int | None = None) -> None:
        if done > 10 * MB:
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(sandbox.files.upload, source, "/home/user/large", on_progress=look)
        assert begun.wait(60)
        sandbox.pause()
        failure = uploading.exception(120)
    assert failure is None or isinstance(failure, AtollError)
    keeper.check()
    if failure is None:
        assert _checksum(sandbox, "/home/user/large") == _checksum_of_pattern(sandbox)
    sandbox.files.upload(source, "/home/user/large")
    assert _checksum(sandbox, "/home/user/large") == _checksum_of_pattern(sandbox)


def _checksum(sandbox: Sandbox, path: str) -> str:
    return sandbox.run(["sha256sum", path], check=True).stdout.split()[0]


def _checksum_of_pattern(sandbox: Sandbox) -> str:
    script = f"import hashlib; print(hashlib.sha256(bytes(range(250)) * ({200 * MB} // 250)).hexdigest())"
    return sandbox.run(["python3", "-c", script], check=True).stdout.strip()


def test_a_deleted_file_that_is_open(client: Config) -> None:
    with Sandbox.create(config=client) as sandbox:
        keeper = Keeper.start(sandbox)
        keeper.set(7)
        sandbox.files.write("/home/user/stays", "stays")
        sandbox.start("exec 3>gone; rm gone; touch ready; exec sleep 1000", cwd="/home/user").disconnect()
        wait_until(lambda: sandbox.files.exists("/home/user/ready"), 10, "the file is deleted")
        with pytest.raises(FailedPrecondition, match="/home/user/gone"):
            sandbox.pause()
        assert sandbox.info().state == "running"
        with pytest.raises(FailedPrecondition, match="/home/user/gone"):
            sandbox.snapshot()
        keeper.check()
        assert sandbox.pause(keep_memory=False)
        assert sandbox.resume()
        assert sandbox.files.read("/home/user/stays") == "stays"
        assert not keeper.is_there()
        told = launch(sandbox, "keeper", Keeper.PORT)
        assert told["boot_id"] != keeper.boot_id and told["value"] == 0


def test_variables_outlive_a_pause_that_keeps_files_only(client: Config) -> None:
    with Sandbox.create(envs={"COLOUR": "green"}, config=client) as sandbox:
        sandbox.pause(keep_memory=False)
        assert sandbox.run("echo $COLOUR").stdout == "green\n"


def test_a_connection_that_is_kept_alive(keeper: Keeper, client: Config) -> None:
    sandbox = keeper.sandbox
    with httpx.Client(headers={"x-api-key": client.api_key or ""}, timeout=60, trust_env=False) as browser:
        url = sandbox.get_url(Keeper.PORT)
        assert browser.get(url).json()["value"] == 41
        sandbox.pause()
        sandbox.resume()
        assert browser.get(url).json()["value"] == 41
        sandbox.pause()
        assert browser.get(url).json()["value"] == 41
        assert browser.put(url + "42").json()["value"] == 42


def test_a_running_command_is_read_on(keeper: Keeper) -> None:
    sandbox = keeper.sandbox
    process = sandbox.start("for i in $(seq 1 200); do echo $i; sleep 0.02; done")
    seen, paused = "", 0
    for event in process:
        seen += getattr(event, "text", "")
        if paused < 3 and seen.endswith(("\n20\n", "\n60\n", "\n90\n")):
            paused += 1
            assert sandbox.pause()
            if paused == 2:
                sandbox.resume()
    assert paused == 3
    assert seen.split() == [str(number) for number in range(1, 201)]
    assert process.exit is not None and process.exit.exit_code == 0
    keeper.check()


def test_a_terminal_goes_on(keeper: Keeper) -> None:
    sandbox = keeper.sandbox
    with sandbox.pty.create(cols=80, rows=24) as terminal:
        terminal.send_stdin("mine=kept; echo be''fore\n")
        _read_until(terminal, b"before")
        sandbox.pause()
        sandbox.resume()
        terminal.send_stdin("echo after $mine\n")
        _read_until(terminal, b"after kept")


def _read_until(terminal: object, wanted: bytes) -> None:
    said = b""
    for event in terminal:  # type: ignore[attr-defined]
        said += event.data if isinstance(event, PtyOutput) else b""
        if wanted in said:
            return
    raise AssertionError(f"the terminal ended, and said {said!r}")


@pytest.mark.parametrize("way", ["connect", "agent", "files", "port"])
@pytest.mark.parametrize("sleep", ["pause", "freeze"])
def test_every_touch_wakes(keeper: Keeper, client: Config, sleep: str, way: str) -> None:
    sandbox = keeper.sandbox
    sandbox.files.write("note", "here")
    sandbox.pause() if sleep == "pause" else sandbox.freeze()
    asleep = "paused" if sleep == "pause" else "frozen"
    sandbox.metrics()
    assert sandbox.info().state == asleep == Sandbox.get(sandbox.id, config=client).created.state
    match way:
        case "connect":
            assert Sandbox.connect(sandbox.id, config=client).created.state == "running"
        case "agent":
            assert sandbox.run("echo up").stdout == "up\n"
        case "files":
            assert sandbox.files.read("note") == "here"
        case "port":
            keeper.check()
    assert sandbox.info().state == "running"
    keeper.check()


def test_nothing_but_resume_wakes_one_that_may_not_be(client: Config) -> None:
    with Sandbox.create(auto_resume=False, config=client) as sandbox:
        keeper = Keeper.start(sandbox)
        keeper.set(3)
        sandbox.pause()
        with pytest.raises(FailedPrecondition) as refused:
            sandbox.run("true")
        assert refused.value.details["state"] == "paused"
        assert sandbox.request("GET", Keeper.PORT).status_code == 409
        assert sandbox.info().state == "paused"
        assert sandbox.resume()
        keeper.check()


def test_a_frozen_one_stands_still(keeper: Keeper) -> None:
    before = keeper.check()["ticks"]
    assert keeper.sandbox.freeze().state == "frozen"
    time.sleep(2)
    # Frozen for two seconds it cannot have ticked forty times more than one that ran for the rest.
    assert keeper.check()["ticks"] - before < 30
    keeper.sandbox.freeze()
    assert keeper.sandbox.pause()
    keeper.check()


def test_the_end_of_its_time_pauses_it(client: Config) -> None:
    with Sandbox.create(timeout_s=300, on_timeout="pause", config=client) as sandbox:
        keeper = Keeper.start(sandbox)
        keeper.set(5)
        sandbox.set_timeout(1)
        wait_until(lambda: sandbox.info().state == "paused", 30, "it is paused")
        keeper.check()
        assert sandbox.info().state == "running"


def test_idle_it_is_frozen_then_paused_then_woken(client: Config) -> None:
    with Sandbox.create(idle_timeout_s=1, on_idle="freeze", pause_after_s=2, config=client) as sandbox:
        keeper = Keeper.start(sandbox)
        keeper.set(9)
        wait_until(lambda: sandbox.info().state == "frozen", 30, "it is frozen")
        keeper.check()
        wait_until(lambda: sandbox.info().state == "frozen", 30, "it is frozen again")
        wait_until(lambda: sandbox.info().state == "paused", 30, "it is paused")
        keeper.check()


def test_a_damaged_save_is_refused(keeper: Keeper, daemon: Daemon) -> None:
    sandbox = keeper.sandbox
    saves = daemon.state_dir / "layers" / ".saves"
    # The shared daemon has those of others' templates, too.
    before = set(saves.glob("*/memory/pages.img"))
    sandbox.pause()
    (pages,) = set(saves.glob("*/memory/pages.img")) - before
    _flip(pages, 100_000)
    with pytest.raises(FailedPrecondition, match=r"damaged.*pages\.img"):
        sandbox.resume()
    assert sandbox.info().state == "paused"
    answer = sandbox.request("GET", Keeper.PORT)
    assert answer.status_code == 409 and "damaged" in answer.text
    _flip(pages, 100_000)
    keeper.check()


def _flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_disk_that_takes_no_more_writes(daemon: Daemon) -> None:
    with Sandbox.create(runtime="gvisor", config=daemon.config) as sandbox:
        sandbox.files.write("/home/user/kept", "kept")
        snapshot = sandbox.snapshot()
        try:
            # As after its journal could not be written.
            disk = daemon.state_dir / "layers" / sandbox.id / "mnt"
            subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)
            for save in (sandbox.pause, sandbox.snapshot):
                with pytest.raises(FailedPrecondition, match=r"read-only.*roll the sandbox back"):
                    save()
                assert sandbox.run("cat /home/user/kept", check=True).stdout == "kept"
            sandbox.rollback(snapshot)
            again = sandbox.run("cat kept && echo again >kept && sync && cat kept", cwd="/home/user", check=True)
            assert again.stdout == "keptagain\n"
        finally:
            snapshot.delete()
