"""IPython's kernel, with the environment variables that come along with code, and requests that come over the line."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextvars import copy_context
from typing import Any

from ipykernel.ipkernel import IPythonKernel

import atoll_envs
from atoll_line import NAME, Line, LineSession
from atoll_streams import LineStream


class AtollKernel(IPythonKernel):
    """Reads `atoll` in a request's metadata: `keep`, variables for good; `envs`, variables for this execution."""

    # Jupyter's kernels wait after each execution, for output that overtakes it elsewhere; here nothing does.
    _execute_sleep = 0.0

    _line: Line | None = None

    def take_line(self, line: Line) -> None:
        """Take requests from `line`, once the kernel runs; call it in the loop's thread."""
        assert isinstance(self.session, LineSession)
        self._line = self.session.line = line
        loop = asyncio.get_running_loop()
        # One for all: what code sets in it is there for the next.
        context = copy_context()

        def read() -> None:
            try:
                for request in line.receive():
                    loop.create_task(self._run(request), context=context)
            except (EOFError, OSError):
                loop.remove_reader(line)

        loop.add_reader(line, read)

    async def _run(self, request: dict[str, Any]) -> None:
        """One execution, as the kernel's own dispatcher does it."""
        assert isinstance(self.session, LineSession)
        async with self._main_asyncio_lock:
            header = self.session.msg_header("execute_request") | {"msg_id": request["msg_id"], "session": NAME}
            header["date"] = header["date"].isoformat()
            message = {**request, "header": header, "parent_header": {}, "msg_type": "execute_request", "buffers": []}
            self.set_parent([], message)
            # A result is the last that code does, unless each of its lines has one.
            each = getattr(self.shell, "ast_node_interactivity", "") == "all"
            self.session.held = ("execute_input",) if each else ("execute_input", "execute_result")
            self.pre_handler_hook()
            try:
                await self.execute_request(None, [], message)
            except KeyboardInterrupt:
                self.log.error("an interrupt came between two executions")
            except Exception:
                self.log.exception("an execution failed")
            finally:
                self.post_handler_hook()

    def pre_handler_hook(self) -> None:
        """An interrupt reaches code, but no message that is being sent."""
        super().pre_handler_hook()
        if self._line is not None:
            signal.signal(signal.SIGINT, self._line.on_interrupt)

    async def do_execute(
        self, code: Any, silent: Any, *rest: Any, cell_meta: Any = None, cell_id: Any = None, **options: Any
    ) -> Any:
        """As IPython's does."""
        given = (cell_meta or {}).get("atoll") or {}
        atoll_envs.keep(given.get("keep") or {})
        atoll_envs.push(given.get("envs") or {})
        try:
            return await super().do_execute(code, silent, *rest, cell_meta=cell_meta, cell_id=cell_id, **options)
        finally:
            atoll_envs.pop()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, LineStream):
                    stream.drain()
