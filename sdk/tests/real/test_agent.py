"""The SDK against the real daemon and the real agent, through a network that breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import threading
from pathlib import Path

import pytest
from sdk.tests.real.cutter import Cutter

from atoll import (
    AsyncSandbox,
    Config,
    Exit,
    FailedPrecondition,
    Gap,
    InvalidArgument,
    NotFound,
    OutputLost,
    PermissionDenied,
    PtyOutput,
    Sandbox,
    SandboxEnded,
    Stdout,
    Timeout,
)

pytestmark = pytest.mark.real

MIB = 1024 * 1024


def test_commands(sandbox: Sandbox) -> None:
    result = sandbox.run("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit_code, result.error) == ("out\n", "err\n", 7, "exit status 7")
    assert sandbox.run(["printf", "%s|", "a b", "$HOME", "é"]).stdout == "a b|$HOME|é|"
    assert sandbox.run("pwd; echo $A", cwd="/tmp", envs={"A": "1 2"}).stdout == "/tmp\n1 2\n"
    killed = sandbox.run("kill -KILL $$")
    assert (killed.exit_code, killed.error) == (-1, "signal: killed")
    assert sandbox.run("cat").stdout == ""


def test_what_cannot_run(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such-program"):
        sandbox.run(["no-such-program"])
    with pytest.raises(InvalidArgument, match="/no/such/dir"):
        sandbox.run("true", cwd="/no/such/dir")
    with pytest.raises(InvalidArgument, match="nobody-here"):
        sandbox.run("true", user="nobody-here")
    (tmp_path / "plain").write_text("text")
    with pytest.raises(PermissionDenied, match="may not run"):
        sandbox.run([str(tmp_path / "plain")])


def test_time_is_over(sandbox: Sandbox) -> None:
    with pytest.raises(Timeout) as caught:
        sandbox.run("echo begun; sleep 60", timeout_s=0.3)
    assert caught.value.result is not None
    assert caught.value.result.stdout == "begun\n"
    for found in sandbox.processes():
        # The agent tells that time is over while it kills; the end follows at once.
        assert sandbox.attach(found.pid).wait().error == "signal: killed"


def test_stdin_of_any_size_comes_back(sandbox: Sandbox) -> None:
    data = random.Random(7).randbytes(5 * MIB)
    result = sandbox.run("cat", stdin=data)
    assert result.stdout_bytes == data
    assert sandbox.run("head -c 3", stdin=data).stdout_bytes == data[:3]
    assert sandbox.run("tr a-z A-Z", stdin="é text").stdout == "é TEXT"


def test_signals_reach_the_whole_group(sandbox: Sandbox) -> None:
    process = sandbox.start("trap 'echo got it; exit 3' INT; echo ready; while :; do sleep 0.05; done")
    assert next(process) == Stdout(b"ready\n", "ready\n")
    process.send_signal("SIGINT")
    result = process.wait()
    assert (result.exit_code, result.stdout) == (3, "got it\n")
    with pytest.raises(NotFound):
        process.send_signal("SIGINT")
    process.kill()
    sleeper = sandbox.start("sleep 60 & sleep 60")
    with pytest.raises(InvalidArgument):
        sleeper.send_signal("SIGNOTHING")
    sleeper.kill()
    assert sleeper.wait().error == "signal: killed"


def test_stdin_by_hand(sandbox: Sandbox) -> None:
    process = sandbox.start("cat; echo done", stdin=True)
    process.send_stdin("a")
    assert next(process) == Stdout(b"a", "a")
    assert [found.pid for found in sandbox.processes()] == [process.pid]
    process.close_stdin()
    assert process.wait().stdout == "done\n"
    closed = sandbox.start("sleep 60")
    with pytest.raises(FailedPrecondition):
        closed.send_stdin("a")
    closed.kill()


def test_attach_after_leaving_and_after_the_end(sandbox: Sandbox) -> None:
    process = sandbox.start("echo one; read line; echo $line", stdin=True)
    assert next(process) == Stdout(b"one\n", "one\n")
    process.disconnect()
    again = sandbox.attach(process.pid)
    again.send_stdin("two\n")
    assert again.wait().stdout == "one\ntwo\n"
    late = sandbox.attach(process.pid)
    assert late.wait().stdout == "one\ntwo\n"
    assert list(sandbox.attach(process.pid, replay=False)) == [Exit(0, "exit status 0", None)]
    with pytest.raises(NotFound):
        sandbox.attach(999_999)


def test_terminal(sandbox: Sandbox) -> None:
    pty = sandbox.pty.create(91, 31, cmd=["/bin/sh"], envs={"PS1": "$ "})
    pty.send("stty size; read x; stty size; exit 4\n")
    shown = ""
    for event in pty:
        if isinstance(event, PtyOutput):
            shown += event.text
            if "31 91" in shown:
                break
    pty.resize(120, 40)
    pty.send("\n")
    rest = pty.wait()
    assert "40 120" in rest.stdout
    assert rest.exit_code == 4
    with pytest.raises(InvalidArgument):
        sandbox.pty.create(0, 10)


@pytest.mark.parametrize("seed", range(3))
def test_output_is_whole_whatever_breaks(seed: int, sandbox: Sandbox, cutter: Cutter) -> None:
    dice = random.Random(seed)
    cutter.cuts = [dice.randrange(1, 30_000) for _ in range(12)]
    # All of it fits into what the agent keeps, so nothing may be lost however long nobody listens.
    code = "import sys\nfor n in range(30000):\n print(n)\n (n % 7) or print(-n, file=sys.stderr)"
    result = sandbox.run(["python3", "-u", "-c", code])
    assert cutter.cuts_made >= 3
    assert result.stdout == "".join(f"{n}\n" for n in range(30_000))
    assert result.stderr == "".join(f"{-n}\n" for n in range(0, 30_000, 7))


def test_output_that_is_lost_is_told(sandbox: Sandbox, cutter: Cutter) -> None:
    process = sandbox.start("echo begun; read line; yes | head -c 1000000; echo end", stdin=True)
    assert next(process) == Stdout(b"begun\n", "begun\n")
    other = sandbox.attach(process.pid, replay=False)
    process.disconnect()
    other.send_stdin("go\n")
    other.wait()
    again = sandbox.attach(process.pid)
    events = list(again)
    gap = events[0]
    assert isinstance(gap, Gap) and gap.lost_bytes is not None
    rest = b"".join(event.data for event in events if isinstance(event, Stdout))
    assert gap.lost_bytes + len(rest) == len("begun\n") + 1_000_000 + len("end\n")
    assert rest.endswith(b"end\n")
    with pytest.raises(OutputLost):
        sandbox.attach(process.pid).wait()


def test_a_slow_reader_gets_a_hundred_megabytes_in_order(sandbox: Sandbox) -> None:
    size = 100 * MIB
    code = (
        "import sys, hashlib, random\n"
        "dice, digest = random.Random(1), hashlib.sha256()\n"
        f"for _ in range({size // MIB}):\n"
        f"  block = dice.randbytes({MIB}); digest.update(block); sys.stdout.buffer.write(block)\n"
        "sys.stderr.write(digest.hexdigest())"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = sandbox.start(["python3", "-c", code])
    digest, total, told = hashlib.sha256(), 0, ""
    pause = threading.Event()
    for event in process:
        if isinstance(event, Stdout):
            digest.update(event.data)
            total += len(event.data)
            if total % (8 * MIB) < len(event.data):
                pause.wait(0.02)
        elif not isinstance(event, Exit):
            assert not isinstance(event, Gap)
            told += event.text
    assert (total, told) == (size, digest.hexdigest())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024


def test_files(sandbox: Sandbox, tmp_path: Path) -> None:
    root = str(tmp_path / "d é ?#%")
    assert sandbox.files.make_dir(root) is True
    assert sandbox.files.make_dir(root) is False
    info = sandbox.files.write(f"{root}/a/b.txt", "text é")
    assert (info.name, info.type, info.size, info.path) == ("b.txt", "file", 7, f"{root}/a/b.txt")
    assert sandbox.files.read(f"{root}/a/b.txt") == "text é"
    assert sandbox.files.read(f"{root}/a/b.txt", format="bytes") == "text é".encode()
    sandbox.files.write_many({f"{root}/many/{number}": bytes([number]) for number in range(20)})
    assert [item.name for item in sandbox.files.list(f"{root}/many")] == sorted(str(number) for number in range(20))
    assert {item.name for item in sandbox.files.list(root, depth=2)} >= {"a", "b.txt", "many", "7"}
    moved = sandbox.files.move(f"{root}/a/b.txt", f"{root}/c/d.txt")
    assert moved.path == f"{root}/c/d.txt"
    assert sandbox.files.exists(f"{root}/c/d.txt") and not sandbox.files.exists(f"{root}/a/b.txt")
    sandbox.files.remove(root)
    sandbox.files.remove(root)
    assert not sandbox.files.exists(root)
    for missing in (
        lambda: sandbox.files.read(root),
        lambda: sandbox.files.stat(root),
        lambda: sandbox.files.list(root),
    ):
        with pytest.raises(NotFound):
            missing()
    with pytest.raises(InvalidArgument):
        sandbox.files.read("/tmp")


def test_large_files_go_up_and_down(sandbox: Sandbox, tmp_path: Path) -> None:
    source, remote, target = tmp_path / "source", tmp_path / "remote", tmp_path / "target"
    block = os.urandom(MIB)
    with source.open("wb") as file:
        for _ in range(64):
            file.write(block)
    assert sandbox.files.upload(source, str(remote)) == 64 * MIB
    assert sandbox.files.download(str(remote), target) == 64 * MIB
    assert hashlib.sha256(source.read_bytes()).digest() == hashlib.sha256(target.read_bytes()).digest()


def test_watch(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox.files.watch(str(tmp_path), recursive=True, include_entry=True) as watch:
        sandbox.run(f"cd {tmp_path} && echo x > a && mv a b && rm b && mkdir d && echo y > d/e")
        seen: list[tuple[str, str]] = []
        for event in watch:
            seen.append((event.type, event.name))
            if event.name == "d/e" and event.type in ("create", "write"):
                assert event.entry is not None
                break
    kinds = set(seen)
    assert {("create", "a"), ("rename", "a"), ("create", "b"), ("remove", "b"), ("create", "d")} <= kinds


def test_an_ended_sandbox_says_why(sandbox: Sandbox, real_config: Config) -> None:
    process = sandbox.start("sleep 60")
    assert Sandbox.connect(sandbox.id, config=real_config).kill() is True
    with pytest.raises(SandboxEnded, match="it was killed"):
        sandbox.run("true")
    # An agent that is asked to end kills its processes first, so their end may still be told.
    try:
        assert process.wait().exit_code == -1
    except SandboxEnded:
        pass
    assert sandbox.kill() is False


def test_lists_and_limits(real_config: Config) -> None:
    made = [Sandbox.create(runtime="fake", metadata={"of": "this test"}, config=real_config) for _ in range(3)]
    listing = Sandbox.list(metadata={"of": "this test"}, page_size=2, state="running", config=real_config)
    assert {item.id for item in listing} == {sandbox.id for sandbox in made}
    assert made[0].set_timeout(1000).expires_at is not None
    assert made[0].set_timeout(None).expires_at is None
    assert made[0].info().metadata == {"of": "this test"}
    for sandbox in made:
        sandbox.kill()
    for wrong in ({"cpu": -1}, {"memory_mib": 10**9}, {"timeout_s": 0}, {"template": "no such"}, {"envs": {"1": "x"}}):
        with pytest.raises(InvalidArgument):
            Sandbox.create(runtime="fake", config=real_config, **wrong)
    for missing in ("nothing", "no/such"):
        with pytest.raises(NotFound):
            Sandbox.create(runtime="fake", template=missing, config=real_config)
    with pytest.raises(NotFound):
        Sandbox.create(runtime="nothing", config=real_config)


async def test_the_asynchronous_flavour_many_at_once(real_config: Config) -> None:
    async with await AsyncSandbox.create(runtime="fake", config=real_config) as sandbox:
        results = await asyncio.gather(*[sandbox.run(f"echo {n}; cat", stdin=f"in {n}") for n in range(50)])
        assert [result.stdout for result in results] == [f"{n}\nin {n}" for n in range(50)]
        response = await sandbox.request("GET", 1)
        assert response.status_code == 502
