"""The agent behind the fake daemon: scripted commands, files in a dictionary."""

from __future__ import annotations

import base64
from typing import Any

from sdk.tests.fake_wire import Dropped, FakeProcess, Script, Wire, unframe


class AgentRoutes(Wire):
    """What is asked of a sandbox's agent."""

    def _agent(self, path: str) -> None:
        if path == "files":
            self._files()
        elif path == "envs":
            self._json({"OWN": "1"})
        elif path == "process.Process/Start":
            self._start(unframe(self.seen.body))
        elif path == "process.Process/Connect":
            self._connect(unframe(self.seen.body))
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
