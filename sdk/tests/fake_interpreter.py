"""The code interpreter behind the fake daemon: scripted executions, contexts in a dictionary."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

from sdk.tests.fake_wire import Dropped, Wire

END = {"type": "end_of_execution"}


@dataclass
class CodeScript:
    """The lines that code gives. `hold`: it says no more after them until the client leaves.
    `cut`: the connection breaks after them. `pieces`: in so many bytes they arrive."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    hold: bool = False
    cut: bool = False
    pieces: int = 1 << 20


class InterpreterRoutes(Wire):
    """What is asked of port 49999."""

    def _interpreter(self, path: str) -> None:
        contexts = self.daemon.contexts
        if path == "/execute":
            self._execute(self.seen.json())
        elif path == "/contexts" and self.command == "GET":
            self._json(list(contexts.values()))
        elif path == "/contexts":
            body = {"language": "python", "cwd": "/home/user", **self.seen.json()}
            if body["language"] == "cobol":
                self._answer(400, b"there is no kernel for cobol")
                return
            context = {"id": f"c{len(contexts)}", **body}
            contexts[context["id"]] = context
            self._json(context)
        elif (id := path.split("/")[2]) not in contexts:
            self._answer(404, f"Context {id} not found".encode())
        elif self.command == "DELETE":
            del contexts[id]
            self._answer(204)
        else:
            self._json(contexts[id])

    def _execute(self, body: dict[str, Any]) -> None:
        if body["context_id"] not in (None, *self.daemon.contexts):
            self._answer(404, f"Context {body['context_id']} not found".encode())
            return
        script = self.daemon.code.get(body["code"], CodeScript([END]))
        self._begin_stream({})
        raw = b"".join(json.dumps(line).encode() + b"\n" for line in script.lines)
        for start in range(0, len(raw), script.pieces):
            self._chunk(raw[start : start + script.pieces])
        if script.cut:
            raise Dropped
        if script.hold:
            self.connection.settimeout(10)
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                self.daemon.gave_up.set()
            raise Dropped
        self._end_stream()
