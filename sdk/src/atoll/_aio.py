"""What the asynchronous flavour takes from asyncio. `_threads` has the same names for the synchronous one."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

import httpx

from atoll._config import Config
from atoll._pool import client_options

T = TypeVar("T")

Callback = Callable[[T], Awaitable[None] | None]

_Clients = dict[Config, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]]
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = weakref.WeakKeyDictionary()


async def shared_client(config: Config) -> httpx.AsyncClient:
    """The one client of this config and event loop; closed when the loop shuts down."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if config not in clients:
        client = httpx.AsyncClient(**client_options(config))
        keeper = _close_with_loop(client)
        clients[config] = (client, keeper)
        await keeper.__anext__()
    return clients[config][0]


async def _close_with_loop(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    # A loop has no hook for its end, but `asyncio.run` closes every asynchronous generator that has begun.
    try:
        yield
    finally:
        await client.aclose()


async def sleep(seconds: float) -> None:
    """Wait without holding up others."""
    await asyncio.sleep(seconds)


async def run_blocking(function: Callable[..., T], *args: Any) -> T:
    """The result of a call that may wait for a disk."""
    return await asyncio.to_thread(function, *args)


async def call(callback: Callback[T], value: T) -> None:
    """Hand a value to the user's function, plain or asynchronous."""
    outcome = callback(value)
    if inspect.isawaitable(outcome):
        await outcome


class Job(Generic[T]):
    """Something that runs beside the caller, until `finish`. starts: False leaves it to `start`."""

    _task: asyncio.Task[T]

    def __init__(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, starts: bool = True) -> None:
        self._function = function
        self._args = args
        if starts:
            self.start()

    def start(self) -> None:
        """Begin it, once."""
        self._task = asyncio.get_running_loop().create_task(self._function(*self._args))

    def withdraw(self) -> bool:
        """Whether it had not begun. No cancellation comes between here, so it has."""
        return False

    async def finish(self) -> T:
        """Its result, once it has one; what it raised is raised here. Cancelling this leaves it running."""
        return await asyncio.shield(self._task)

    async def abandon(self) -> None:
        """Stop it; what it raises from now on is of no interest."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Deadline:
    """A block that may take `seconds`, or any time with None; past that it is ended, and raises TimeoutError."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    async def __aenter__(self) -> Deadline:
        task = asyncio.current_task()
        if self._seconds is not None and task is not None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire, task)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._expired or kind is not asyncio.CancelledError:
            return
        task = asyncio.current_task()
        # From Python 3.11 on, a task counts who cancels it: somebody else may have done so, too.
        uncancel = getattr(task, "uncancel", None)
        if uncancel is None or uncancel() == 0:
            raise TimeoutError

    def watch(self, response: httpx.Response) -> None:
        """What the block reads from now on; here it needs no help to end."""

    def _expire(self, task: asyncio.Task[object]) -> None:
        self._expired = True
        task.cancel()


async def gather(jobs: Iterable[Job[T]]) -> list[T]:
    """The results of all. The first error is raised once all have ended, so that none runs on unseen."""
    outcomes = await asyncio.gather(*[job._task for job in jobs], return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


async def iterate(source: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a plain or an asynchronous iterable."""
    if isinstance(source, AsyncIterable):
        async for piece in source:
            yield piece
    else:
        for piece in source:
            yield piece
