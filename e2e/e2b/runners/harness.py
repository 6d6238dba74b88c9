"""Checks of the Python client: how they are named, run and told.

A check is written once, as a coroutine, and serves both flavours: `go` awaits what the asynchronous client returns and
passes on what the blocking one returns. The blocking flavour runs without any event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Flavour = Literal["sync", "async"]
Body = Callable[["Run"], Coroutine[Any, Any, None]]

CHECK_LIMIT_S = 40.0


class AbsentError(Exception):
    """This release of the client has not got what the check is about."""


@dataclass(frozen=True)
class Check:
    name: str
    body: Body
    covers: tuple[str, ...]
    later: bool
    flavours: tuple[Flavour, ...]
    limit_s: float = CHECK_LIMIT_S


CHECKS: list[Check] = []


def check(
    *covers: str, later: bool = False, only: Flavour | None = None, limit_s: float = CHECK_LIMIT_S
) -> Callable[[Body], Body]:
    """Register a check of the methods in `covers` ("files.read"). `later`: it must be refused as not there yet.
    `limit_s`: how long it may take, where that can be seen to."""

    def register(body: Body) -> Body:
        flavours: tuple[Flavour, ...] = (only,) if only else ("sync", "async")
        CHECKS.append(Check(body.__name__, body, covers, later, flavours, limit_s))
        return body

    return register


async def go(value: Any) -> Any:
    """What `value` is or, when it is awaitable, what it comes to."""
    return await value if inspect.isawaitable(value) else value


async def gather_stream(stream: Any) -> list[Any]:
    """All items of a plain or asynchronous iterator."""
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


@dataclass
class Run:
    """What checks work with: the client's package and one sandbox shared by those that leave it alive."""

    flavour: Flavour
    e2b: Any = field(default_factory=lambda: importlib.import_module("e2b"))
    sb: Any = None
    made: list[Any] = field(default_factory=list)

    @property
    def Sandbox(self) -> Any:
        return self.named("Sandbox")

    def named(self, name: str) -> Any:
        """The class of this flavour: `Sandbox` or `AsyncSandbox`. Raises AbsentError where the release has none."""
        full = name if self.flavour == "sync" else f"Async{name}"
        if not hasattr(self.e2b, full):
            raise AbsentError(f"this release has no {full}")
        return getattr(self.e2b, full)

    async def create(self, **options: Any) -> Any:
        """A sandbox of the check's own; it is killed when the runner ends."""
        options = {"timeout": 120} | options
        sandbox = await go(self.Sandbox.create(**options))
        self.made.append(sandbox)
        return sandbox

    async def folder(self) -> str:
        """A new empty folder in the shared sandbox."""
        path = f"/home/user/{uuid.uuid4().hex[:10]}"
        await go(self.sb.files.make_dir(path))
        return path

    async def pause(self, seconds: float) -> None:
        if self.flavour == "async":
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - the blocking flavour runs without a loop

    async def until(self, probe: Callable[[], Any], limit_s: float = 10.0) -> Any:
        """The first true value of `probe`, asked ten times a second. AssertionError when there is none in time."""
        deadline = time.monotonic() + limit_s
        while True:
            value = await go(probe())
            if value:
                return value
            assert time.monotonic() < deadline, f"nothing came within {limit_s} s"
            await self.pause(0.1)

    async def raises(self, kind: Any, value: Callable[[], Any], *said: str) -> Any:
        """Do `value()`, which must raise `kind` (a class or the name of one) with every part of `said` in its text."""
        kind = getattr(self.e2b, kind) if isinstance(kind, str) else kind
        try:
            answer = await go(value())
        except kind as error:
            missing = [part for part in said if part not in str(error)]
            assert not missing, f"{type(error).__name__} says {str(error)!r}, without {missing}"
            return error
        except Exception as error:
            raise AssertionError(f"raised {type(error).__name__}: {error}, not {kind.__name__}") from error
        raise AssertionError(f"answered {answer!r} instead of raising {kind.__name__}")

    @staticmethod
    def takes(function: Any, *parameters: str) -> None:
        """Raises AbsentError unless `function` of this release has these parameters."""
        known = inspect.signature(function).parameters
        for parameter in parameters:
            if parameter not in known:
                raise AbsentError(f"this release has no parameter {parameter!r}")


def refused_for_now(error: BaseException) -> str | None:
    """The reason, when `error` is the client's form of a 501 that says why."""
    text = str(error)
    before, found, reason = text.partition("501: ")
    if not found or before or len(reason) < 15:
        return None
    return reason


async def attempt(one: Check, run: Run, public: set[str]) -> dict[str, Any]:
    """Run one check; returns its line: check, methods, status (ok, later, absent, fail), reason, ms."""
    methods = [name for name in one.covers if name in public]
    began = time.monotonic()
    status, reason = "ok", ""
    try:
        if not methods:
            raise AbsentError("this release has none of " + ", ".join(one.covers))
        body = one.body(run)
        if run.flavour == "async":
            await asyncio.wait_for(body, one.limit_s)
        else:
            await body
        if one.later:
            status, reason = "fail", "it is answered now: this needs a check of what it does"
    except AbsentError as error:
        status, reason = "absent", str(error)
    except Exception as error:
        later = refused_for_now(error) if one.later else None
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame.lineno for frame in where if "/runners/" in frame.filename and "harness" not in frame.filename]
        status = "later" if later else "fail"
        reason = later or f"{type(error).__name__}: {error}"[:600] + (f" (line {ours[-1]})" if ours else "")
    ms = round((time.monotonic() - began) * 1000)
    return {"check": one.name, "methods": methods, "status": status, "reason": reason, "ms": ms}


def tell(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def chosen(flavour: Flavour) -> Iterator[Check]:
    """The checks of this flavour; E2B_COMPAT_ONLY (names, comma-separated) narrows them while one is at work."""
    only = set(filter(None, os.environ.get("E2B_COMPAT_ONLY", "").split(",")))
    return (one for one in CHECKS if flavour in one.flavours and (not only or one.name in only))


def drive(main: Coroutine[Any, Any, None], flavour: Flavour) -> None:
    """Run `main`: under asyncio, or, for the blocking flavour, straight through."""
    if flavour == "async":
        asyncio.run(main)
        return
    try:
        main.send(None)
    except StopIteration:
        return
    raise RuntimeError("a check of the blocking flavour waited for something asynchronous")
