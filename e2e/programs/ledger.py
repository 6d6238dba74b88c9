"""Writes rows into an SQLite database as fast as it can and tells how many are committed; runs inside a sandbox.

`ledger.py <file> <journal mode> <port>`. GET / tells {"committed": n}: rows 1 to n are in the database.
"""

import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

state = {"committed": 0, "error": ""}


class Handler(BaseHTTPRequestHandler):
    """Answers with the state."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(state).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing reads it."""


def write(path: str, journal: str) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA journal_mode={journal}")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, filler BLOB)")
    database.commit()
    number = database.execute("SELECT coalesce(max(n), 0) FROM rows").fetchone()[0]
    while True:
        number += 1
        database.execute("INSERT INTO rows VALUES (?, ?)", (number, os.urandom(500)))
        database.commit()
        state["committed"] = number


def watched(path: str, journal: str) -> None:
    try:
        write(path, journal)
    except Exception as error:
        state["error"] = repr(error)


if __name__ == "__main__":
    threading.Thread(target=watched, args=sys.argv[1:3], daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[3])), Handler).serve_forever()
