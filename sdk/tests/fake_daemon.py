"""A small daemon with a small agent behind it, in this process: scripted commands, files in a dictionary, no sleeps.

It speaks the native API and the Connect streams over a real socket, so that the SDK's own HTTP code is under test.
"""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sdk.tests.fake_agent import AgentRoutes
from sdk.tests.fake_interpreter import CodeScript, InterpreterRoutes
from sdk.tests.fake_state import StateRoutes
from sdk.tests.fake_wire import Dropped, FakeProcess, Script, Seen

__all__ = ["FakeDaemon", "FakeProcess", "Script", "Seen"]


class FakeDaemon:
    """`url` is where it listens. `scripts` maps a command's text (its words joined by spaces) to what it does.

    `hold_creates`, when set, keeps creates waiting until it is set.
    The events are set when a process started, was signalled, got input, or its terminal got a size.
    `machine` maps a path to the JSON that it answers with.
    `fork_faults`: errors that the next fork's siblings meet. `diffs`: what all pairs of snapshots differ in.
    `archive`: what every export gives, cut off with `cut_archive`; `imported`: names and bodies of imports.
    `code` maps code to what the interpreter does with it; `gave_up` is set once a client left in the middle.
    `answers` maps "METHOD /path" to a list of (status, headers, body) that are given first, one for each request.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.processes: dict[int, FakeProcess] = {}
        self.sandboxes: dict[str, dict[str, Any]] = {}
        self.by_idempotency_key: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.archive = b""
        self.cut_archive = False
        self.imported: list[tuple[str | None, bytes]] = []
        self.pools: dict[str, dict[str, Any]] = {}
        self.diffs: list[dict[str, Any]] = []
        self.fork_faults: list[dict[str, Any]] = []
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
        self.code: dict[str, CodeScript] = {}
        self.contexts: dict[str, dict[str, str]] = {}
        self.gave_up = threading.Event()
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


class _Handler(AgentRoutes, InterpreterRoutes, StateRoutes):
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

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

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
            elif rest.startswith("ports/49999/"):
                self._interpreter(rest.removeprefix("ports/49999"))
            elif rest.startswith("ports/"):
                self._answer(418, rest.encode())
            elif not self._state(id, rest):
                self._sandbox(id, rest)
        elif self._snapshots_and_pools(urlsplit(self.path).path):
            return
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
        states = [value for name, value in parse_qsl(self.seen.query) if name == "state"]
        found = [
            item
            for item in daemon.sandboxes.values()
            if wanted.items() <= item.get("metadata", {}).items() and item["state"] in (states or [item["state"]])
        ]
        start, limit = int(self.seen.params.get("cursor", "0")), int(self.seen.params["limit"])
        more = str(start + limit) if len(found) > start + limit else None
        self._json({"items": found[start : start + limit], "next_cursor": more, "total_running": len(daemon.sandboxes)})

    def _sandbox(self, id: str, rest: str) -> None:
        sandbox = self.daemon.sandboxes[id]
        if self.command == "DELETE":
            del self.daemon.sandboxes[id]
            self._answer(204)
        elif rest in ("timeout", "network", "lifecycle"):
            sandbox.update(self.seen.json())
            self._json(sandbox)
        elif rest == "metrics":
            self._json({"items": [{"timestamp": "2026-11-23T05:00:01Z", "cpu_count": 1, "memory_used_bytes": 5}]})
        elif rest == "logs":
            self._json({"items": [{"timestamp": "2026-11-23T05:00:01Z", "message": "m"}]})
        else:
            self._json(sandbox)
