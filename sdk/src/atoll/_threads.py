"""What the synchronous flavour takes from threads. `_aio` has the same names for the asynchronous one."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import httpx

from atoll._config import Config
from atoll._pool import client_options

T = TypeVar("T")

Callback = Callable[[T], None]

_clients: dict[tuple[int, Config], httpx.Client] = {}
_lock = threading.Lock()


def shared_client(config: Config) -> httpx.Client:
    """The one client of this config and process; closed when the interpreter ends."""
    # The process id is part of the key because a forked child must not share its parent's connections.
    key = (os.getpid(), config)
    client = _clients.get(key)
    if client is None:
        with _lock:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = httpx.Client(**client_options(config))
    return client


@atexit.register
def _close_clients() -> None:
    for (pid, _), client in _clients.items():
        if pid == os.getpid():
            client.close()


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def run_blocking(function: Callable[..., T], *args: Any) -> T:
    """The result of a call that may wait for a disk."""
    return function(*args)


def call(callback: Callback[T], value: T) -> None:
    """Hand a value to the user's function."""
    callback(value)


class Job(Generic[T]):
    """Something that runs beside the caller, in a thread, until `finish`.

    starts: False leaves it to `start`. Who is interrupted in there cannot know whether it runs; `withdraw` tells.
    """

    def __init__(self, function: Callable[..., T], *args: Any, starts: bool = True) -> None:
        self._lock = threading.Lock()
        self._has_begun = False
        self._is_withdrawn = False
        self._function = function
        self._args = args
        self._results: list[T] = []
        self._error: BaseException | None = None
        # Not Thread.join: interrupted by a signal, it takes a running thread for an ended one from then on.
        self._ended = threading.Event()
        if starts:
            self.start()

    def start(self) -> None:
        """Begin it, once."""
        threading.Thread(target=self._run, name=f"atoll-{self._function.__name__}", daemon=True).start()

    def withdraw(self) -> bool:
        """Whether it had not begun; then it never will, and there is nothing to wait for."""
        with self._lock:
            self._is_withdrawn = not self._has_begun
            return self._is_withdrawn

    def _run(self) -> None:
        with self._lock:
            if self._is_withdrawn:
                return
            self._has_begun = True
        try:
            self._results.append(self._function(*self._args))
        except BaseException as error:  # handed to whoever calls finish()
            self._error = error
        finally:
            self._ended.set()

    def finish(self) -> T:
        """Its result, once it has one; what it raised is raised here."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def abandon(self) -> None:
        """Let it end by itself; what it raises is of no interest. A thread cannot be stopped from outside."""


class Deadline:
    """A block that may take `seconds`, or any time with None; past that it is ended, and raises TimeoutError.

    A thread cannot be stopped from outside, but what it reads can: the block ends once that is `watch`ed.
    """

    def __init__(self, seconds: float | None) -> None:
        self._timer = None if seconds is None else threading.Timer(seconds, self._expire)
        self._lock = threading.Lock()
        self._response: httpx.Response | None = None
        self._expired = False

    def __enter__(self) -> Deadline:
        if self._timer is not None:
            self._timer.name, self._timer.daemon = "atoll-deadline", True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._lock:
            # The connection may serve others from now on.
            self._response = None
        if self._timer is not None:
            self._timer.cancel()
        if self._expired and kind is not None and issubclass(kind, Exception):
            raise TimeoutError

    def watch(self, response: httpx.Response) -> None:
        """What the block reads from now on."""
        with self._lock:
            self._response = response
            if self._expired:
                _cut(response)

    def _expire(self) -> None:
        with self._lock:
            self._expired = True
            if self._response is not None:
                _cut(self._response)


def _cut(response: httpx.Response) -> None:
    stream = response.extensions.get("network_stream")
    connection = None if stream is None else stream.get_extra_info("socket")
    if isinstance(connection, socket.socket):
        try:
            # Of the plain socket also under TLS: whoever reads sees the end at once.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            # Closed already: there is nothing left to wake.
            return


def gather(jobs: Iterable[Job[T]]) -> list[T]:
    """The results of all. The first error is raised once all have ended, so that none runs on unseen."""
    all_jobs = list(jobs)
    for job in all_jobs:
        job._ended.wait()
    return [job.finish() for job in all_jobs]


def iterate(source: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of an iterable."""
    return iter(source)
