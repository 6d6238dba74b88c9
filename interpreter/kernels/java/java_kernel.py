"""Jupyter's side of the Java kernel: code goes to the JShell of a Java process, and what it says comes back.

A line each: to it `run <base64 of code>` or `stop`; from it `out`, `err`, `value`, `error` (name, message and stack,
each base64) and at the end `done`.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp", HERE, "Shell"]


class JavaKernel(Kernel):
    """One JShell."""

    implementation = "atoll-java"
    implementation_version = "0.1.0"
    banner = "JShell"
    language_info = {"name": "java", "mimetype": "text/x-java-source", "file_extension": ".java"}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Interrupts are sent to this process and all that it started; Java would end at one.
        self._java = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._read()

    async def do_execute(self, code: str, silent: bool, *rest: Any, **options: Any) -> dict[str, Any]:
        """Run `code`."""
        self._write(f"run {base64.b64encode(code.encode()).decode()}")
        failed: dict[str, Any] | None = None
        stopped = False
        while True:
            try:
                kind, *parts = self._read()
            except KeyboardInterrupt:
                self._write("stop")
                stopped = True
                continue
            if kind == "done":
                break
            if kind == "error":
                failed = {"ename": parts[0], "evalue": parts[1], "traceback": parts[2].splitlines()}
                self._tell("error", failed, silent)
            elif kind == "value":
                data = {"data": {"text/plain": parts[0]}, "metadata": {}, "execution_count": self.execution_count}
                self._tell("execute_result", data, silent)
            else:
                self._tell("stream", {"name": "stdout" if kind == "out" else "stderr", "text": parts[0]}, silent)
        if failed is None and stopped:
            failed = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
            self._tell("error", failed, silent)
        if failed is not None:
            return {"status": "error", "execution_count": self.execution_count, **failed}
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End Java too."""
        self._java.kill()
        return {"status": "ok", "restart": restart}

    def _tell(self, kind: str, content: dict[str, Any], silent: bool) -> None:
        if not silent:
            self.send_response(self.iopub_socket, kind, content)

    def _write(self, line: str) -> None:
        assert self._java.stdin is not None
        self._java.stdin.write(line.encode() + b"\n")
        self._java.stdin.flush()

    def _read(self) -> list[str]:
        assert self._java.stdout is not None
        line = self._java.stdout.readline()
        if not line:
            # The code ended Java: so does this kernel, and the server starts another.
            os.kill(os.getpid(), signal.SIGKILL)
        kind, *parts = line.decode().split()
        return [kind, *(base64.b64decode(part).decode("utf-8", "replace") for part in parts)]


if __name__ == "__main__":
    sys.path[:] = ["" if path == HERE else path for path in sys.path]
    IPKernelApp.launch_instance(kernel_class=JavaKernel)
