"""What every verb of the driver works with, found once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import NotFound
from atolld.host.cgroups import Cgroups
from atolld.host.procs import ProcessIdentity
from atolld.runtime.commands import Command, run_to_its_end
from atolld.runtime.drivers.gvisor.arguments import Runsc
from atolld.runtime.drivers.gvisor.probe import Probe
from atolld.runtime.drivers.gvisor.processes import living
from atolld.runtime.drivers.gvisor.settings import GvisorSettings
from atolld.runtime.record import Record
from atolld.runtime.refuse import slow_calls

_WORDS = 4096


@dataclass(frozen=True, slots=True)
class Engine:
    """A usable gVisor on this machine: how to call it, what its commands need, and the groups of its sandboxes."""

    runsc: Runsc
    probe: Probe
    settings: GvisorSettings
    cgroups: Cgroups

    async def ask(
        self, record: Record, argv: Sequence[str], timeout_s: float | None = None, tiny: tuple[Path, ...] = ()
    ) -> str | None:
        """Run a command on a sandbox that runs, to its end even when the caller is cancelled.

        None when it succeeded, else its own words. `timeout_s` None: the setting for commands; `tiny`: see `Command`.
        Raises NotFound when the sandbox is gone, DeadlineExceeded.
        """
        output = record.directory / "command.log"
        try:
            output.unlink(missing_ok=True)
            command = Command(argv, output, tiny=tiny, filter=slow_calls())
            code = await run_to_its_end(command, timeout_s or self.settings.command_timeout_s)
        except FileNotFoundError:
            if record.directory.exists():
                raise
            raise NotFound(f"sandbox {record.id} is gone") from None
        if code == 0:
            return None
        # What went wrong comes first, then pages of a stack.
        words = (
            output.read_text(errors="replace")[:_WORDS].strip() or f"runsc ended with status {code} and said nothing"
        )
        self.require_living(record)
        return words

    def require_living(self, record: Record) -> ProcessIdentity:
        """The sentry. Raises NotFound when the sandbox is gone."""
        process = living(self.settings.root, record)
        if process is None:
            raise NotFound(f"sandbox {record.id} is gone")
        return process
