from __future__ import annotations

import fcntl
import os
import socket
import threading

import pytest

from atolld.daemon import background
from atolld.daemon.settings import Settings


def test_a_daemon_is_who_holds_the_lock(settings: Settings) -> None:
    assert background.running(settings) is None
    lock = settings.state / "daemon.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{os.getpid()}\n")
    # A file that a killed daemon left behind holds nothing.
    assert background.running(settings) is None
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = background.running(settings)
        assert found is not None and found.pid == os.getpid()
        file.truncate(0)
        assert background.running(settings) is None


@pytest.mark.parametrize(
    "answer, healthy",
    [
        (b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"status":"ok"}', True),
        (b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"status":"bad"}', False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope", False),
        (b"SSH-2.0-something\r\n", False),
        (b"", False),
    ],
)
def test_health_of_whatever_listens_there(settings: Settings, answer: bytes, healthy: bool) -> None:
    with socket.create_server(("127.0.0.1", settings.bind_port)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert (background.health(settings) is not None) is healthy
        thread.join()


def test_nothing_listens(settings: Settings) -> None:
    assert background.health(settings) is None


def test_stopping_what_does_not_run(settings: Settings) -> None:
    assert background.stop(settings, end_all=True) is False
