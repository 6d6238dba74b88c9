"""The runsc command lines. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.gvisor.binary import RunscBinary

# Each is used where the binary knows it; 2022 releases have none of them and behave as wanted without.
OPTIONAL_FLAGS = (
    # Writes go to our own writable layer, which is the disk limit; gVisor's own overlay would hide them from it.
    ("overlay2", "none"),
    # Files are opened by the sentry itself: no round trip to the gofer for each.
    ("directfs", "true"),
    # Connections may be cut by a later checkpoint; fixed at start, so every sandbox has it.
    ("net-disconnect-ok", "true"),
    # The guest sees as many CPUs as it was given, not as the machine has.
    ("cpu-num-from-quota", "true"),
    # Set-user-id programs gain their owner's rights (2025 releases; earlier ones never let them).
    ("allow-suid", "true"),
    ("host-uds", "none"),
    ("host-fifo", "none"),
)


@dataclass(frozen=True, slots=True)
class Runsc:
    """One binary as this driver calls it: `root` is its state directory, `platform` the one the probe chose."""

    binary: RunscBinary
    root: Path
    platform: str

    def base(self, log: Path | None = None) -> list[str]:
        """The binary and its global flags; `log` takes its errors as JSON lines."""
        argv = [str(self.binary.path), f"--root={self.root}"]
        if log is not None:
            argv += [f"--log={log}", "--log-format=json"]
        return argv

    def run(self, id: SandboxId, directory: Path) -> list[str]:
        """Create and start in one command, with the bundle in `directory`."""
        return self._making("run", id, directory)

    def create(self, id: SandboxId, directory: Path) -> list[str]:
        """Make a container with the bundle in `directory` and start nothing in it; `restore` can, later."""
        return [argument for argument in self._making("create", id, directory) if argument != "--detach"]

    def start(self, id: SandboxId, directory: Path) -> list[str]:
        """Start what `create` made. It is this command that sets up the guest's network, by its own flags."""
        return [*self._flags(directory), "start", id]

    def restore(self, id: SandboxId, directory: Path, image: Path) -> list[str]:
        """As `run`, with the memory that a checkpoint wrote to `image`; in the container that `create` made, if any.

        Not past the page cache, even where runsc can: whoever compared the checksums has just read all of it.
        """
        return self._making("restore", id, directory, f"--image-path={image}")

    def pause(self, id: SandboxId) -> list[str]:
        """Stop every task of the guest. Not for one that is paused: runsc refuses that."""
        return [*self.base(), "pause", id]

    def resume(self, id: SandboxId) -> list[str]:
        """Undo `pause`. Not for one that is not paused: runsc refuses that."""
        return [*self.base(), "resume", id]

    def checkpoint(self, id: SandboxId, image: Path, *, direct: bool) -> list[str]:
        """Write the guest's memory into the directory `image`. `direct`: past the page cache, where runsc can.

        A sandbox of which a checkpoint without `--leave-running` fails is gone.
        """
        argv = [*self.base(), "checkpoint", "--leave-running", "--compression=none"]
        wanted = ["exclude-committed-zero-pages", *(["direct"] if direct else [])]
        argv += [f"--{flag}" for flag in wanted if flag in self.binary.checkpoint_flags]
        return [*argv, f"--image-path={image}", id]

    def kill(self, id: SandboxId, directory: Path, signal: str) -> list[str]:
        """Send `signal` to the guest's PID 1."""
        return [*self.base(error_log(directory)), "kill", id, signal]

    def _making(self, verb: str, id: SandboxId, directory: Path, *extra: str) -> list[str]:
        places = [f"--bundle={directory}", f"--pid-file={pid_file(directory)}"]
        return [*self._flags(directory), verb, "--detach", *extra, *places, id]

    def _flags(self, directory: Path) -> list[str]:
        argv = self.base(error_log(directory))
        argv += [f"--platform={self.platform}", "--network=sandbox", "--file-access=exclusive"]
        argv += [f"--{flag}={value}" for flag, value in OPTIONAL_FLAGS if self.binary.has(flag)]
        if self.binary.has("panic-log"):
            argv.append(f"--panic-log={panic_log(directory)}")
        return argv


def error_log(directory: Path) -> Path:
    """Where runsc's own errors go."""
    return directory / "runsc.log"


def panic_log(directory: Path) -> Path:
    """Where a dying sentry says why."""
    return directory / "panic.log"


def pid_file(directory: Path) -> Path:
    """Where runsc writes the pid of the sandbox's process."""
    return directory / "sandbox.pid"


def config_file(directory: Path) -> Path:
    """The bundle's configuration."""
    return directory / "config.json"
