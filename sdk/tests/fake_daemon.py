"""A small daemon with a small agent behind it, in this process: scripted commands, files in a dictionary, no sleeps.

It speaks the native API and the Connect streams over a real socket, so that the SDK's own HTTP code is under test.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class Script:
    """What a command does. `cuts`: the connection is dropped after so many bytes of output, once for each entry.

    `ring_from`: the oldest byte that a replay can still give. `echo_stdin`: repeats its input until that ends.
    `refuse`: the Connect error that its start answers with. `hold`: it prints nothing more until the event is set.
    `hold_start`: its start is not told until the event is set.
    `frames`: raw bytes sent in place of everything after the start event.
    """

    output: list[tuple[str, bytes]] = field(default_factory=list)
    exit_code: int = 0
    status: str | None = None
    cuts: list[int] = field(default_factory=list)
    ring_from: int = 0
    echo_stdin: bool = False
    refuse: dict[str, str] | None = None
    end_error: dict[str, str] | None = None
    hold: threading.Event | None = None
    hold_start: threading.Event | None = None
    cut_before_start: bool = False
    frames: bytes | None = None


@dataclass
class FakeProcess:
    """A script that was started."""

    pid: int
    tag: str
    start: dict[str, Any]
    script: Script
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: threading.Event = field(default_factory=threading.Event)
    killed: threading.Event = field(default_factory=threading.Event)
    signals: list[str] = field(default_factory=list)
    sizes: list[dict[str, int]] = field(default_factory=list)

    def output(self) -> Iterator[tuple[str, bytes]]:
        yield from self.script.output
        if self.script.echo_stdin:
            self.stdin_closed.wait(10)
            yield ("stdout", bytes(self.stdin))


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Dropped(Exception):
    """The script says that the connection breaks here."""


class FakeDaemon:
    """`url` is where it listens. `scripts` maps a command's text (its words joined by spaces) to what it does.

    `hold_creates`, when set, keeps creates waiting until it is set.
    The events are set when a process started, was signalled, got input, or its terminal got a size.
    `machine` maps a path to the JSON that it answers with.
    `answers` maps "METHOD /path" to a list of (status, headers, body) that are given first, one for each request.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.processes: dict[int, FakeProcess] = {}
        self.sandboxes: dict[str, dict[str, Any]] = {}
        self.by_idempotency_key: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.dirs: set[str] = {"/home/user"}
        self.watch_frames: list[list[dict[str, Any]]] = []
        self.seen: list[Seen] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.connections = 0
        self.started = threading.Event()
        self.create_seen = threading.Event()
        self.hold_creates: threading.Event | None = None
        self.lock = threading.Lock()
        self.made = 0
        self.signalled = threading.Event()
        self.typed = threading.Event()
        self.resized = threading.Event()
        self.machine: dict[str, Any] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_ref = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def requests_to(self, path_end: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith(path_end)]

    def new_sandbox(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.made += 1
            id = f"sbx{self.made}"
        sandbox = {
            "id": id,
            "state": "running",
            "disk_mib": 10240,
            "pids_max": 1024,
            "created_at": "2026-11-23T05:00:00.123456Z",
            "started_at": "2026-11-23T05:00:00.5Z",
            "expires_at": None,
            "ended_at": None,
            "end_reason": None,
            "end_message": None,
            **{key: value for key, value in body.items() if key != "envs"},
        }
        self.sandboxes[id] = sandbox
        return sandbox


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    daemon_ref: FakeDaemon

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Connections are cut on purpose here; the test that cuts them says what must follow.
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.daemon_ref.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _any(self) -> None:
        parts = urlsplit(self.path)
        self.daemon = self.server.daemon_ref
        self.seen = Seen(
            self.command,
            unquote(parts.path),
            parts.query,
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in self.headers.items()},
            self._read_body(),
        )
        self.daemon.seen.append(self.seen)
        prepared = self.daemon.answers.get(f"{self.command} {parts.path}")
        if prepared:
            status, headers, body = prepared.pop(0)
            if status == 0:
                self._drop()
                return
            self._answer(status, body, headers)
            return
        try:
            self._route(self.seen.path)
        except Dropped:
            self._drop()

    do_GET = do_POST = do_PUT = do_DELETE = _any

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"content-type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._json({"error": {"code": code, "message": message, "request_id": "req_1"}}, status)

    def _agent_refuse(self, status: int, code: str, message: str) -> None:
        self._json({"code": code, "message": message}, status)

    def _route(self, path: str) -> None:
        if self.seen.headers.get("x-api-key") != "key":
            self._refuse(401, "unauthenticated", "this key does not exist")
        elif path == "/v1/sandboxes":
            self._sandboxes()
        elif path.startswith("/v1/sandboxes/"):
            id, _, rest = path.removeprefix("/v1/sandboxes/").partition("/")
            if id not in self.daemon.sandboxes:
                self._refuse(404, "not_found", f"there is no sandbox {id}")
            elif rest.startswith("agent/"):
                self._agent(rest.removeprefix("agent/"))
            elif rest.startswith("ports/"):
                self._answer(418, rest.encode())
            else:
                self._sandbox(id, rest)
        elif path in self.daemon.machine:
            self._json(self.daemon.machine[path])
        elif path.startswith("/v1/keys/"):
            self._answer(204)
        else:
            self._refuse(404, "not_found", f"there is no {path}")

    def _sandboxes(self) -> None:
        daemon = self.daemon
        if self.command == "POST":
            daemon.create_seen.set()
            if daemon.hold_creates is not None:
                daemon.hold_creates.wait(10)
            key = self.seen.headers["idempotency-key"]
            if key not in daemon.by_idempotency_key:
                daemon.by_idempotency_key[key] = daemon.new_sandbox(self.seen.json())
            self._json({**daemon.by_idempotency_key[key], "timings_ms": {"total": 12.5}}, 201)
            return
        wanted = dict(parse_qsl(self.seen.params.get("metadata", "")))
        found = [item for item in daemon.sandboxes.values() if wanted.items() <= item.get("metadata", {}).items()]
        start, limit = int(self.seen.params.get("cursor", "0")), int(self.seen.params["limit"])
        more = str(start + limit) if len(found) > start + limit else None
        self._json({"items": found[start : start + limit], "next_cursor": more, "total_running": len(daemon.sandboxes)})

    def _sandbox(self, id: str, rest: str) -> None:
        sandbox = self.daemon.sandboxes[id]
        if self.command == "DELETE":
            del self.daemon.sandboxes[id]
            self._answer(204)
        elif rest in ("timeout", "network", "connect"):
            sandbox.update(self.seen.json())
            self._json(sandbox)
        elif rest == "metrics":
            self._json({"items": [{"timestamp": "2026-11-23T05:00:01Z", "cpu_count": 1, "memory_used_bytes": 5}]})
        elif rest == "logs":
            self._json({"items": [{"timestamp": "2026-11-23T05:00:01Z", "message": "m"}]})
        else:
            self._json(sandbox)

    def _agent(self, path: str) -> None:
        if path == "files":
            self._files()
        elif path == "process.Process/Start":
            self._start(_unframe(self.seen.body))
        elif path == "process.Process/Connect":
            self._connect(_unframe(self.seen.body))
        elif path == "filesystem.Filesystem/WatchDir":
            self._watch()
        elif path.startswith("filesystem.Filesystem/"):
            self._filesystem(path.partition("/")[2], self.seen.json())
        else:
            self._process(path.partition("/")[2], self.seen.json())

    def _start(self, message: dict[str, Any]) -> None:
        command = message["process"]
        words = command["args"][1:] if command["cmd"] == "/bin/sh" else [command["cmd"], *command["args"]]
        script = self.daemon.scripts.get(" ".join(words), Script())
        self._begin_stream({})
        if script.refuse is not None:
            self._frame({"error": script.refuse}, flags=2)
            self._end_stream()
            return
        pid = 100 + len(self.daemon.processes)
        process = FakeProcess(pid, message["tag"], message, script)
        self.daemon.processes[pid] = process
        self.daemon.started.set()
        if script.hold_start is not None:
            script.hold_start.wait(10)
        if script.cut_before_start:
            raise Dropped
        self._play(process, 0)

    def _connect(self, message: dict[str, Any]) -> None:
        process = self._find(message["process"])
        if process is None:
            self._begin_stream({})
            self._frame({"error": {"code": "not_found", "message": "no such process"}}, flags=2)
            self._end_stream()
            return
        asked = self.seen.headers.get("atoll-replay-from")
        total = sum(len(data) for _, data in process.script.output)
        start = total if asked is None else max(int(asked), process.script.ring_from)
        lost = 0 if asked is None else start - int(asked)
        self._begin_stream({"atoll-replay-gap": str(lost)} if lost else {})
        self._play(process, start)

    def _play(self, process: FakeProcess, start: int) -> None:
        script = process.script
        cut = script.cuts.pop(0) if script.cuts else None
        self._frame({"event": {"start": {"pid": process.pid}}})
        self._frame({"event": {"keepalive": {}}})
        if script.frames is not None:
            self._chunk(script.frames)
            raise Dropped
        position = 0
        for kind, data in process.output():
            rest = data[max(0, start - position) :] if position + len(data) > start else b""
            position += len(data)
            if cut is not None and position >= cut:
                rest = rest[: len(rest) - (position - cut)]
            if rest:
                self._frame({"event": {"data": {kind: base64.b64encode(rest).decode()}}})
            if cut is not None and position >= cut:
                raise Dropped
        if script.hold is not None:
            script.hold.wait(10)
        self._finish(process)

    def _finish(self, process: FakeProcess) -> None:
        script = process.script
        if script.end_error is not None:
            self._frame({"error": script.end_error}, flags=2)
            self._end_stream()
            return
        code = -1 if process.killed.is_set() else script.exit_code
        status = script.status or ("signal: killed" if process.killed.is_set() else f"exit status {code}")
        end: dict[str, Any] = {"exited": code != -1, "status": status}
        if code != 0:
            end |= {"exitCode": code, "error": status}
        self._frame({"event": {"end": end}})
        self._frame({}, flags=2)
        self._end_stream()

    def _find(self, selector: dict[str, Any]) -> FakeProcess | None:
        for process in self.daemon.processes.values():
            if process.pid == selector.get("pid") or process.tag == selector.get("tag"):
                return process
        return None

    def _process(self, method: str, message: dict[str, Any]) -> None:
        if method == "List":
            self._json(
                {
                    "processes": [
                        {"pid": process.pid, "tag": process.tag, "config": process.start["process"]}
                        for process in self.daemon.processes.values()
                    ]
                }
            )
            return
        process = self._find(message["process"])
        if process is None:
            self._agent_refuse(404, "not_found", "no such process")
            return
        if method == "SendInput":
            if not process.start.get("stdin") and "pty" not in process.start:
                self._agent_refuse(500, "internal", "stdin is not enabled")
                return
            process.stdin += base64.b64decode(next(iter(message["input"].values())))
            self.daemon.typed.set()
        elif method == "CloseStdin":
            process.stdin_closed.set()
        elif method == "Update":
            process.sizes.append(message["pty"]["size"])
            self.daemon.resized.set()
        elif method == "Signal":
            process.signals.append(message["signal"])
            self.daemon.signalled.set()
            if message["signal"] == "SIGKILL":
                process.killed.set()
                process.stdin_closed.set()
                if process.script.hold is not None:
                    process.script.hold.set()
        self._json({})

    def _watch(self) -> None:
        self._begin_stream({})
        self._frame({"start": {}})
        frames = self.daemon.watch_frames.pop(0) if self.daemon.watch_frames else []
        for frame in frames:
            if frame.get("drop"):
                raise Dropped
            self._frame(frame)
        self._frame({}, flags=2)
        self._end_stream()

    def _files(self) -> None:
        path = self.seen.params["path"]
        if self.command == "POST":
            self.daemon.files[path] = self.seen.body
            self._json([{"path": path, "name": path.rpartition("/")[2], "type": "file"}])
        elif path in self.daemon.files:
            self._answer(200, self.daemon.files[path])
        else:
            self._json({"code": 404, "message": f"path '{path}' does not exist"}, 404)

    def _filesystem(self, method: str, message: dict[str, Any]) -> None:
        files, dirs = self.daemon.files, self.daemon.dirs
        path = str(message.get("path") or message.get("source"))
        if method == "MakeDir":
            if path in dirs:
                self._agent_refuse(409, "already_exists", "directory already exists")
                return
            dirs.add(path)
        elif method == "Remove":
            files.pop(path, None)
        elif path not in files and path not in dirs:
            self._agent_refuse(404, "not_found", f"path {path} does not exist")
            return
        elif method == "Move":
            path = message["destination"]
            files[path] = files.pop(message["source"])
        if method == "ListDir":
            self._json({"entries": [self._entry(name) for name in sorted(files) if name.startswith(path + "/")]})
        elif method == "Remove":
            self._json({})
        else:
            self._json({"entry": self._entry(path)})

    def _entry(self, path: str) -> dict[str, Any]:
        kind = "FILE_TYPE_DIRECTORY" if path in self.daemon.dirs else "FILE_TYPE_FILE"
        return {
            "name": path.rpartition("/")[2],
            "path": path,
            "type": kind,
            "size": str(len(self.daemon.files.get(path, b""))),
            "mode": 420,
            "permissions": "-rw-r--r--",
            "owner": "user",
            "group": "user",
            "modifiedTime": "2026-11-23T05:00:00.123456789Z",
            "unheardOf": True,
        }

    def _begin_stream(self, headers: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/connect+json")
        self.send_header("transfer-encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _frame(self, message: dict[str, Any], flags: int = 0) -> None:
        payload = json.dumps(message).encode()
        self._chunk(struct.pack(">BI", flags, len(payload)) + payload)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


def _unframe(body: bytes) -> dict[str, Any]:
    flags, length = struct.unpack(">BI", body[:5])
    assert flags == 0
    assert length == len(body) - 5
    message = json.loads(body[5:])
    assert isinstance(message, dict)
    return message
