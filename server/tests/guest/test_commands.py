from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.daemon.process_node import ProcessNode
from atolld.foundation.clock import SystemClock
from atolld.foundation.errors import AtollError, FailedPrecondition, GuestUnreachable, InvalidArgument
from atolld.foundation.ids import new_sandbox_id
from atolld.guest import stream
from atolld.guest.commands import run_command
from atolld.guest.envelope import encode
from atolld.guest.files import put_file
from atolld.node.interface import Launch

AGENT = Path(os.environ.get("ATOLL_AGENT_BINARY", "/var/cache/atoll/bin/atoll-agent"))
USABLE = AGENT.exists() and os.geteuid() == 0
TOKEN = "t" * 32
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/connect+json\r\ntransfer-encoding: chunked\r\n\r\n"


def event(**what: object) -> bytes:
    return encode({"event": what})


def end_frame(error: object = None) -> bytes:
    return b"\x02" + encode({} if error is None else {"error": error})[1:]


def out(text: bytes, name: str = "stdout") -> bytes:
    return event(data={name: base64.b64encode(text).decode()})


START = event(start={"pid": 7})


@dataclass
class FakeAgent:
    """Answers Start with `frames`, then holds the stream open while `hold`; `calls` are the unary ones."""

    frames: bytes
    head: bytes = HEAD
    hold: bool = False
    started: dict[str, object] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    input_ended: asyncio.Event = field(default_factory=asyncio.Event)
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    not_found: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if "content-length" in line)
        body = await reader.readexactly(length)
        path = head.split(" ")[1]
        if path == "/process.Process/Start":
            self.heads.append(head)
            self.started = json.loads(body[5:])
            chunk = b"%x\r\n%s\r\n" % (len(self.frames), self.frames) if self.frames else b""
            writer.write(self.head + chunk)
            if self.hold:
                await self.killed.wait()
        else:
            status = b"200 OK"
            if self.not_found:
                self.not_found -= 1
                status = b"404 Not Found"
            else:
                self.calls.append((path, json.loads(body)))
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: 2\r\n\r\n{}" % status)
            if path.endswith("/CloseStdin"):
                self.input_ended.set()
            if path.endswith("/Signal") and status == b"200 OK":
                self.killed.set()
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(agent: FakeAgent) -> AsyncIterator[str]:
    async with await asyncio.start_server(agent.serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


Run = Callable[..., Awaitable[int]]


async def run(agent: FakeAgent, **options: object) -> tuple[int, list[tuple[str, bytes]]]:
    said: list[tuple[str, bytes]] = []
    values: dict[str, object] = {"user": "root", "on_output": lambda name, piece: said.append((name, piece))}
    runner: Run = run_command
    async with serving(agent) as address:
        return await runner(address, TOKEN, ["make", "all"], **(values | options)), said


async def test_output_and_exit_code() -> None:
    agent = FakeAgent(START + out(b"one") + event(keepalive={}) + out(b"two", "stderr") + event(end={"exitCode": 3}))
    assert await run(agent, user="me:staff", cwd="/src", envs={"A": "1"}) == (
        3,
        [("stdout", b"one"), ("stderr", b"two")],
    )
    tag = agent.started.pop("tag")
    assert isinstance(tag, str) and len(tag) == 32
    process = {"cmd": "make", "args": ["all"], "envs": {"A": "1"}, "cwd": "/src"}
    assert agent.started == {"process": process, "stdin": False}
    assert f"authorization: Basic {base64.b64encode(b'me:').decode()}\r\n" in agent.heads[0]
    assert f"x-access-token: {TOKEN}\r\n" in agent.heads[0]


@pytest.mark.parametrize(
    ("end", "code"), [({}, 0), ({"exitCode": 0}, 0), ({"exitCode": -1}, -1), ({"exitCode": 255}, 255)]
)
async def test_exit_codes(end: dict[str, object], code: int) -> None:
    assert (await run(FakeAgent(START + event(end=end))))[0] == code


@pytest.mark.parametrize(
    ("frames", "head", "kind", "says"),
    [
        (end_frame({"code": "invalid_argument", "message": "cwd '/x' does not exist"}), HEAD, InvalidArgument, "/x"),
        (end_frame({"code": "unauthenticated", "message": "invalid username: 'x'"}), HEAD, InvalidArgument, "'x'"),
        (end_frame({"code": "not_found", "message": "y" * 9000}), HEAD, InvalidArgument, "^y{500}$"),
        (end_frame({"code": "resource_exhausted", "message": "full"}), HEAD, FailedPrecondition, "full"),
        (end_frame({"code": "internal", "message": "oh"}), HEAD, GuestUnreachable, "oh"),
        (end_frame([1]), HEAD, GuestUnreachable, "no reason"),
        (START + end_frame(), HEAD, GuestUnreachable, "did not tell how 'make' ended"),
        (START, HEAD, GuestUnreachable, "before its end|broke HTTP"),
        (START + event(end={"exitCode": "1"}), HEAD, GuestUnreachable, "exit code"),
        (START + event(end={"exitCode": True}), HEAD, GuestUnreachable, "exit code"),
        (START + event(end={"exitCode": 2**70}), HEAD, GuestUnreachable, "exit code"),
        (START + event(data={"stdout": "*"}), HEAD, GuestUnreachable, "base64"),
        (START + event(data={"stdout": 7}), HEAD, GuestUnreachable, "base64"),
        (b"\0\xff\xff\xff\xff", HEAD, GuestUnreachable, "announces"),
        (b"", b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", GuestUnreachable, "status 401"),
        (b"", b"SSH-2.0-x\r\n\r\n", GuestUnreachable, "HTTP"),
        (b"", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, GuestUnreachable, "HTTP"),
    ],
)
async def test_refusals_and_nonsense(frames: bytes, head: bytes, kind: type[AtollError], says: str) -> None:
    with pytest.raises(kind, match=says):
        await run(FakeAgent(frames, head))


@pytest.mark.parametrize("argv", [[], [""]])
async def test_nothing_to_run(argv: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        await run_command("127.0.0.1:1", TOKEN, argv, user="root", on_output=lambda *_: None)


async def test_silence_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.05)
    with pytest.raises(GuestUnreachable, match="nothing more"):
        await run(FakeAgent(START, hold=True))


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CONNECT_S", 0.05)
    monkeypatch.setattr("atolld.guest.commands.KILL_S", 0.05)
    with pytest.raises(GuestUnreachable):
        await run_command("127.0.0.1:1", TOKEN, ["x"], user="root", on_output=lambda *_: None)


@pytest.mark.parametrize("not_found", [0, 2])
async def test_cancelling_kills_also_what_is_only_being_started(not_found: int) -> None:
    agent = FakeAgent(START, hold=True, not_found=not_found)
    async with serving(agent) as address:
        work = run_command(address, TOKEN, ["sleep"], user="root", on_output=lambda *_: None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work, 0.1)
    assert agent.calls == [
        ("/atoll.guest.v1.Guest/Signal", {"process": {"tag": agent.started["tag"]}, "signal": "SIGKILL"})
    ]


async def test_a_listener_that_fails_kills() -> None:
    agent = FakeAgent(START + out(b"x"), hold=True)

    def fail(_stream: str, _piece: bytes) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await run(agent, on_output=fail)
    assert agent.killed.is_set()


async def test_a_refusal_kills_nothing() -> None:
    agent = FakeAgent(end_frame({"code": "invalid_argument", "message": "no"}))
    with pytest.raises(InvalidArgument):
        await run(agent)
    assert agent.calls == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_input_is_sent_in_pieces_and_closed(streamed: bool) -> None:
    agent = FakeAgent(START, hold=True)
    text = "ä" * 200_000

    async def pieces_of_text() -> AsyncIterator[bytes]:
        for start in range(0, 400_000, 300_000):
            yield text.encode()[start : start + 300_000]

    async with serving(agent) as address:
        stdin = pieces_of_text() if streamed else text
        work = run_command(address, TOKEN, ["cat"], user="root", stdin=stdin, on_output=lambda *_: None)
        task = asyncio.get_running_loop().create_task(work)
        await asyncio.wait_for(agent.input_ended.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
    pieces = [one[1]["input"]["stdin"] for one in agent.calls if one[0].endswith("SendInput")]  # type: ignore[index]
    assert b"".join(map(base64.b64decode, pieces)).decode() == text
    assert len(pieces) == (3 if streamed else 2)
    assert agent.started["stdin"] is True


async def test_a_file_is_put() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
        ok = b"full" not in seen[-1]
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: 5\r\n\r\nwords" % (b"200 OK" if ok else b"507 Full"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await put_file(address, TOKEN, "/dev/shm/a b", b"hi")
        with pytest.raises(FailedPrecondition, match="/full could not be written in the sandbox: words"):
            await put_file(address, TOKEN, "/full", b"hi")
    assert seen[0].startswith(b"POST /files?path=%2Fdev%2Fshm%2Fa+b&username=root HTTP/1.1\r\n")
    assert seen[0].endswith(b"\r\n\r\nhi")


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[str]:
    if not USABLE:
        pytest.skip("needs root and a built agent")
    node = ProcessNode(SystemClock(), AGENT, tmp_path)
    id = new_sandbox_id()
    launch = Launch(id, "fake", (), Resources(), NetworkPolicy(), {"FROM": "sandbox"}, TOKEN, "base", "box")
    launched = await node.launch(launch)
    yield launched.address
    await node.terminate(id)


async def in_sandbox(address: str, script: str, **options: object) -> tuple[int, bytes]:
    said = bytearray()
    values: dict[str, object] = {"user": "root", "on_output": lambda _name, piece: said.extend(piece)}
    runner: Run = run_command
    code = await runner(address, TOKEN, ["/bin/sh", "-c", script], **(values | options))
    return code, bytes(said)


@pytest.mark.real
async def test_with_the_agent(sandbox: str) -> None:
    cases: list[tuple[str, dict[str, object], tuple[int, bytes]]] = [
        ("echo out; echo $FROM $A; exit 3", {"envs": {"A": "1"}}, (3, b"out\nsandbox 1\n")),
        ("kill -9 $$", {}, (-1, b"")),
        ("pwd; cat", {"cwd": "/tmp", "stdin": "input"}, (0, b"/tmp\ninput")),
        ("cat; echo no input", {}, (0, b"no input\n")),
        ("echo does not read it", {"stdin": "x" * 3_000_000}, (0, b"does not read it\n")),
        ("wc -c", {"stdin": "x" * 3_000_000}, (0, b"3000000\n")),
        ("id -u", {"user": "nobody"}, (0, b"65534\n")),
        ("id -u", {"user": "1234:77"}, (0, b"1234\n")),
    ]
    for script, options, expected in cases:
        assert await in_sandbox(sandbox, script, **options) == expected, script
    code, said = await in_sandbox(sandbox, "head -c 20000000 /dev/zero")
    assert (code, len(said)) == (0, 20_000_000)
    for name, value in (("cwd", "/nowhere"), ("user", "nosuchuser")):
        with pytest.raises(InvalidArgument, match=value):
            await in_sandbox(sandbox, "true", **{name: value})


@pytest.mark.real
@pytest.mark.parametrize("background", ["sleep 300", "setsid sleep 300", "(while true; do sleep 1; done)"])
async def test_what_is_left_in_the_background_is_not_waited_for(sandbox: str, background: str) -> None:
    began = time.monotonic()
    assert await in_sandbox(sandbox, f"echo begun; {background} & exit 7") == (7, b"begun\n")
    assert time.monotonic() - began < 10


@pytest.mark.real
async def test_a_quiet_command_is_waited_for(sandbox: str) -> None:
    assert await in_sandbox(sandbox, "sleep 6; echo done") == (0, b"done\n")


@pytest.mark.real
async def test_cancelling_kills_the_whole_group_in_a_sandbox(sandbox: str, tmp_path: Path) -> None:
    mark = f"/tmp/{tmp_path.name}-{os.getpid()}"
    script = f"sleep 300 & echo $! > {mark}; sleep 300"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(in_sandbox(sandbox, script), 1)
    gone = f"for i in $(seq 50); do kill -0 $(cat {mark}) 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    assert await in_sandbox(sandbox, gone) == (0, b"")
