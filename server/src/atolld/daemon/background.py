"""Start the daemon in the background, find it again, end it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from atolld.daemon.settings import Settings
from atolld.foundation.errors import DeadlineExceeded, Internal
from atolld.host import procs
from atolld.host.procs import ProcessIdentity

START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 60.0
POLL_S = 0.02
TAIL_BYTES = 4000


def log_file(settings: Settings) -> Path:
    """Where the background daemon's output goes."""
    return settings.state / "atolld.log"


def running(settings: Settings) -> ProcessIdentity | None:
    """The daemon that holds the state directory; None when none does."""
    try:
        text = (settings.state / "daemon.lock").read_text(encoding="ascii").strip()
    except (FileNotFoundError, PermissionError):
        return None
    if not text.isdecimal() or not _holds_lock(settings.state / "daemon.lock"):
        return None
    return procs.identify(int(text))


def _holds_lock(path: Path) -> bool:
    """Whether some process has the lock: it could not be taken now."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def health(settings: Settings, timeout_s: float = 2.0) -> Mapping[str, object] | None:
    """What `/health` says; None when nothing answers there."""
    address = urlsplit(settings.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        told = json.loads(connection.getresponse().read(64 * 1024))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return told if isinstance(told, dict) and told.get("status") == "ok" else None


def start(settings: Settings) -> float:
    """Start a daemon that outlives this process, and wait until it answers. Returns the seconds it took.

    Raises Internal with the end of its log when it ends instead, DeadlineExceeded after 120 s.
    """
    began = time.monotonic()
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = log_file(settings)
    before = log.stat().st_size if log.exists() else 0
    # Nothing of ours prints; this takes what the interpreter says when it dies.
    output = settings.state / "atolld.out"
    with output.open("wb") as stream:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "atolld", "serve", "--log-file", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd="/",
        )
    while time.monotonic() - began < START_DEADLINE_S:
        if health(settings, 1.0) is not None and running(settings) is not None:
            return time.monotonic() - began
        if daemon.poll() is not None:
            said = _tail(output, 0) or _tail(log, before) or "(nothing)"
            raise Internal(f"the daemon did not start. It said:\n{said}\nIts log is {log}.")
        time.sleep(POLL_S)
    raise DeadlineExceeded(f"the daemon does not answer after {START_DEADLINE_S:g} s; see {log}")


def stop(settings: Settings, end_all: bool) -> bool:
    """Tell the daemon to stop and wait until it has. Returns False when none runs.

    Raises DeadlineExceeded when it has not ended after 60 s.
    """
    process = running(settings)
    if process is None:
        return False
    procs.send_signal(process, signal.SIGUSR2 if end_all else signal.SIGTERM)
    began = time.monotonic()
    while procs.is_alive(process):
        if time.monotonic() - began > STOP_DEADLINE_S:
            raise DeadlineExceeded(f"process {process.pid} has not ended after {STOP_DEADLINE_S:g} s; see its log")
        time.sleep(POLL_S)
    return True


def _tail(path: Path, since: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(min(since, size), size - TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
