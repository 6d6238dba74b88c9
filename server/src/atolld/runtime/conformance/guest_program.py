#!/usr/bin/python3
"""PID 1 of a sandbox under test: answers each connection's JSON request {"sh": command} with {"status", "output"}.

Runs in the guest, with nothing but Python's own library. Ends at SIGTERM, unless ATOLL_TEST_IGNORES_TERM is set.
"""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time

PORT = 49983


class Request(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        if request.get("exit") is not None:
            os._exit(request["exit"])
        done = subprocess.run(
            ["/bin/sh", "-c", request["sh"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        answer = {"status": done.returncode, "output": done.stdout.decode(errors="replace")}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    ignores = bool(os.environ.get("ATOLL_TEST_IGNORES_TERM"))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else lambda *_: os._exit(0))
    server = Server(("0.0.0.0", PORT), Request)
    sys.stderr.write("guest is up\n")
    sys.stderr.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        # Not pause(): a signal between two of them would be seen only at the next one.
        time.sleep(0.1)


main()
