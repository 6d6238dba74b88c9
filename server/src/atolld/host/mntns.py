"""A mount namespace in which `/proc/sys/net` is empty, for runtimes that are misled by it.

runsc takes a visible `/proc/sys/net/core/rmem_default` as the sign of the host's own network and refuses to start;
newer kernels show that file in every network namespace. One namespace is prepared at the start of the daemon and
entered per command by nsenter: 1.1 ms; making one per command takes 4 ms with 600 mounts, and grows with them.

It is a slave of the host's: mounts made later below a shared directory (`mounts.make_shared`) appear in it. So prepare
it after those directories.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from atolld.host import mounts, syscalls
from atolld.host.instance import Instance

_HIDDEN = Path("/proc/sys/net")


class RuntimeNamespace:
    """The prepared mount namespace of one instance, held by a file so that no process is needed to keep it."""

    def __init__(self, instance: Instance) -> None:
        self._directory = instance.run_dir / "mntns"
        self.path = self._directory / "runtime"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before a command to run it in the namespace; its paths must be absolute."""
        return ("nsenter", f"--mount={self.path}", "--")

    async def prepare(self) -> None:
        """Make the namespace, in place of an earlier one, in about 5 ms. Raises OSError."""
        await asyncio.to_thread(self._prepare)

    def remove(self) -> None:
        """Let the namespace go; processes in it keep it until they end. Gone is success. Raises OSError."""
        for target in mounts.mounts_below(self._directory):
            mounts.unmount(target)
        self.path.unlink(missing_ok=True)
        if self._directory.exists():
            self._directory.rmdir()

    def _prepare(self) -> None:
        self.remove()
        self._directory.mkdir(mode=0o700, parents=True)
        # A namespace cannot be held by a file on a mount that is propagated into it.
        syscalls.mount(str(self._directory), self._directory, None, syscalls.MS_BIND)
        syscalls.mount("none", self._directory, None, syscalls.MS_PRIVATE)
        self.path.touch(mode=0o400)
        ready, held = threading.Event(), threading.Event()
        outcome: list[int | OSError] = []

        def inside() -> None:
            try:
                syscalls.unshare(syscalls.CLONE_NEWNS)
                syscalls.mount("none", Path("/"), None, syscalls.MS_REC | syscalls.MS_SLAVE)
                syscalls.mount("none", _HIDDEN, "tmpfs", syscalls.MS_RDONLY | syscalls.MS_NOSUID, "size=4k")
                outcome.append(threading.get_native_id())
            except OSError as error:
                outcome.append(error)
            ready.set()
            held.wait()

        thread = threading.Thread(target=inside, name="mount-namespace", daemon=True)
        thread.start()
        ready.wait()
        try:
            result = outcome[0]
            if isinstance(result, OSError):
                raise result
            # From here and not from inside: the file must be mounted in the host's namespace.
            syscalls.mount(f"/proc/{os.getpid()}/task/{result}/ns/mnt", self.path, None, syscalls.MS_BIND)
        finally:
            held.set()
            thread.join()
