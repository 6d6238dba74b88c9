"""A program with much to lose: memory, an open file, a child, a timer, a thread pool, a server. Runs inside a sandbox.

GET / takes stock of all of it. PUT /<n> sets a mark that is kept in memory and written to the open file.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8101
BLOCK_BYTES = 200 * 1000**2
TICK_S = 0.05
WORKERS = 4
LOG = Path("/home/user/ticks.log")

CHILD = "import os, sys\nfor n, _ in enumerate(sys.stdin, 1): print(os.getpid(), n, flush=True)\n"


class Steady:
    """All of it. The main thread takes the timer's signals and does nothing else."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.block = random.Random(20).randbytes(BLOCK_BYTES)
        self.mark, self.ticks, self.asked = 0, 0, 0
        self.lines: list[str] = []
        self.log = open(LOG, "a", buffering=1)
        self.child = subprocess.Popen(
            [sys.executable, "-u", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.beats = [0] * WORKERS
        # One thread more than those that are busy for ever, for what is submitted later.
        self.pool = ThreadPoolExecutor(WORKERS + 1)
        for index in range(WORKERS):
            self.pool.submit(self._beat, index)

    def write(self, line: str) -> None:
        """Into the file and into memory; under the lock."""
        self.lines.append(line)
        self.log.write(line + "\n")

    def tick(self) -> None:
        with self.lock:
            self.ticks += 1
            self.write(f"tick {self.ticks}")

    def set_mark(self, mark: int) -> None:
        with self.lock:
            self.mark = mark
            self.write(f"mark {mark}")

    def stock(self) -> dict[str, object]:
        """Everything that can be wrong, as values and as answers to "is it so?"."""
        block = hashlib.blake2b(self.block).hexdigest()
        with self.lock:
            self.asked += 1
            child = self._ask_child()
            file_is_right = LOG.read_text().splitlines() == self.lines
            return {
                "ticks": self.ticks,
                "ticks_are_counted": self.lines.count(f"tick {self.ticks}") == min(1, self.ticks)
                and sum(line.startswith("tick ") for line in self.lines) == self.ticks,
                "mark": self.mark,
                "asked": self.asked,
                "file_is_right": file_is_right,
                "block": block,
                "child": child,
                "child_is_alive": self.child.poll() is None and child[0] == self.child.pid,
                "beats": list(self.beats),
                "pool_works": self.pool.submit(pow, 7, self.asked, 1009).result(20) == pow(7, self.asked, 1009),
                "pid": os.getpid(),
                "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            }

    def _ask_child(self) -> list[int]:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write("?\n")
        self.child.stdin.flush()
        return [int(word) for word in self.child.stdout.readline().split()]

    def _beat(self, index: int) -> None:
        while True:
            self.beats[index] += 1
            time.sleep(TICK_S)


class Handler(BaseHTTPRequestHandler):
    """Answers with the stock."""

    steady: Steady
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(self.steady.stock()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.steady.set_mark(int(self.path.strip("/")))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing reads it."""


if __name__ == "__main__":
    # Taken one after the other by the main thread; a handler would be called in the middle of the last call of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    Handler.steady = Steady()
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    while True:
        signal.sigwait({signal.SIGALRM})
        Handler.steady.tick()
