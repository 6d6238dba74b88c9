"""What the drivers that run host processes keep in a handle: directory, log, and one process for certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.procs import ProcessIdentity
from atolld.runtime.driver import Handle

VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Record:
    """One sandbox.

    `log` takes the agent's output, `resources` are its bounds; both None in a handle that is only good for `destroy`.
    `process`: the host process that
    keeps it alive; None before `start` told. `boot_id`: the host's boot the process belongs to; pids and start times
    mean nothing in another.
    """

    id: SandboxId
    directory: Path
    log: Path | None = None
    resources: Resources | None = None
    process: ProcessIdentity | None = None
    boot_id: str | None = None

    def to_handle(self, driver: str) -> Handle:
        """The form the daemon stores."""
        data: dict[str, object] = {"directory": str(self.directory)}
        if self.log is not None:
            data["log"] = str(self.log)
        if self.resources is not None:
            data["resources"] = asdict(self.resources)
        if self.process is not None:
            data |= {"pid": self.process.pid, "started_ticks": self.process.started_ticks, "boot_id": self.boot_id}
        return Handle(driver, VERSION, self.id, data)

    @staticmethod
    def from_handle(handle: Handle) -> Record:
        """Raises FailedPrecondition when a newer Atoll wrote the handle, or it is damaged."""
        if handle.version > VERSION:
            raise FailedPrecondition(
                f"sandbox {handle.id} was started by a newer Atoll (handle version {handle.version}, this one knows "
                f"{VERSION}); start that version again, or end the sandbox with it"
            )
        data = handle.data
        directory = data.get("directory")
        if not isinstance(directory, str):
            raise FailedPrecondition(f"the stored handle of sandbox {handle.id} is damaged: {dict(data)!r}")
        log = _text(data.get("log"))
        return Record(
            handle.id,
            Path(directory),
            Path(log) if log is not None else None,
            _resources(handle.id, data.get("resources")),
            _process(data),
            _text(data.get("boot_id")),
        )

    def living(self) -> ProcessIdentity | None:
        """The process, when it still runs."""
        if self.process is None or self.boot_id != current_boot_id():
            return None
        return self.process if procs.is_alive(self.process) else None


def _process(data: Mapping[str, object]) -> ProcessIdentity | None:
    pid, started = data.get("pid"), data.get("started_ticks")
    return ProcessIdentity(pid, started) if isinstance(pid, int) and isinstance(started, int) else None


def _resources(id: SandboxId, stored: object) -> Resources | None:
    if stored is None:
        return None
    try:
        return Resources(**stored)  # type: ignore[arg-type]
    except TypeError:
        raise FailedPrecondition(f"the stored resources of sandbox {id} are damaged: {stored!r}") from None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def current_boot_id() -> str:
    """The host's boot id: another one means that every process of a record is gone."""
    return _BOOT_ID.read_text().strip()
