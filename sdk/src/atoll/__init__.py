"""Atoll's SDK: isolated sandboxes for code nobody has read yet, on machines you own.

    from atoll import Sandbox

    with Sandbox.create() as sandbox:
        print(sandbox.run("python3 -c 'print(6*7)'").stdout)

`AsyncSandbox` is the same with `await`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from atoll._build_models import BuildInfo, BuildLog, TemplateInfo
from atoll._code_models import CodeContext, CodeError, CodeResult, Execution, Logs
from atoll._config import Config
from atoll._errors import (
    AlreadyExists,
    AtollError,
    BuildError,
    Capacity,
    CommandFailed,
    Conflict,
    ConnectionFailed,
    FailedPrecondition,
    ForkFailed,
    GuestUnreachable,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NoSpace,
    NotFound,
    OutputLost,
    PermissionDenied,
    RuntimeUnusable,
    SandboxEnded,
    Timeout,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from atoll._events import Event, Exit, Gap, PtyOutput, Result, Stderr, Stdout
from atoll._image import Image
from atoll._models import FileInfo, LogEntry, Metrics, ProcessInfo, SandboxInfo, WatchEvent
from atoll._state_models import FileDiff, PoolInfo, SnapshotInfo
from atoll._sync.code import Code
from atoll._sync.commands import Pty
from atoll._sync.daemon import Daemon
from atoll._sync.files import Files
from atoll._sync.pools import Pool
from atoll._sync.process import Process
from atoll._sync.sandbox import Sandbox
from atoll._sync.snapshots import Checkpoints, Snapshot
from atoll._sync.watch import Watch
from atoll._version import __version__

if TYPE_CHECKING:
    from atoll._async.code import AsyncCode
    from atoll._async.commands import AsyncPty
    from atoll._async.daemon import AsyncDaemon
    from atoll._async.files import AsyncFiles
    from atoll._async.pools import AsyncPool
    from atoll._async.process import AsyncProcess
    from atoll._async.sandbox import AsyncSandbox
    from atoll._async.snapshots import AsyncCheckpoints, AsyncSnapshot
    from atoll._async.watch import AsyncWatch

# The asynchronous flavour brings asyncio with it, 50 ms that a synchronous program (our command line, say) would wait
# for nothing: it is loaded when one of its names is first asked for.
_LAZY = {
    "AsyncCheckpoints": "atoll._async.snapshots",
    "AsyncCode": "atoll._async.code",
    "AsyncPty": "atoll._async.commands",
    "AsyncDaemon": "atoll._async.daemon",
    "AsyncFiles": "atoll._async.files",
    "AsyncPool": "atoll._async.pools",
    "AsyncProcess": "atoll._async.process",
    "AsyncSandbox": "atoll._async.sandbox",
    "AsyncSnapshot": "atoll._async.snapshots",
    "AsyncWatch": "atoll._async.watch",
}


# Hidden from type checkers, for which it would make every name exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module 'atoll' has no attribute {name!r}")
        value = getattr(import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "AlreadyExists",
    "AsyncCheckpoints",
    "AsyncCode",
    "AsyncDaemon",
    "AsyncFiles",
    "AsyncPool",
    "AsyncProcess",
    "AsyncPty",
    "AsyncSandbox",
    "AsyncSnapshot",
    "AsyncWatch",
    "AtollError",
    "BuildError",
    "BuildInfo",
    "BuildLog",
    "Capacity",
    "Checkpoints",
    "Code",
    "CodeContext",
    "CodeError",
    "CodeResult",
    "CommandFailed",
    "Config",
    "Conflict",
    "ConnectionFailed",
    "Daemon",
    "Event",
    "Execution",
    "Exit",
    "FailedPrecondition",
    "FileDiff",
    "FileInfo",
    "Files",
    "ForkFailed",
    "Gap",
    "GuestUnreachable",
    "Image",
    "Internal",
    "InvalidArgument",
    "LimitExceeded",
    "LogEntry",
    "Logs",
    "Metrics",
    "NoSpace",
    "NotFound",
    "OutputLost",
    "PermissionDenied",
    "Pool",
    "PoolInfo",
    "Process",
    "ProcessInfo",
    "Pty",
    "PtyOutput",
    "Result",
    "RuntimeUnusable",
    "Sandbox",
    "SandboxEnded",
    "SandboxInfo",
    "Snapshot",
    "SnapshotInfo",
    "Stderr",
    "Stdout",
    "TemplateInfo",
    "Timeout",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Watch",
    "WatchEvent",
    "__version__",
]
