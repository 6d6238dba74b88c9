"""Another root for a process that runs: it is the mount it was given, sealed where it should be, and nothing stays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atolld.host import mountcalls, mounts, rootmounts, syscalls
from atolld.host.rootmounts import Bind

pytestmark = pytest.mark.real

# As gVisor's gofer does it: a mount namespace cut off from the host's, and a directory in it as root.
_CHILD = """
import os, sys
from pathlib import Path
from atolld.host import syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", Path("/"), None, syscalls.MS_REC | syscalls.MS_PRIVATE)
root = Path(sys.argv[1])
syscalls.mount(str(root), root, None, syscalls.MS_BIND)
os.chroot(root)
os.chdir("/")
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


class Child:
    """A process with a root of its own, which evaluates what it is asked."""

    def __init__(self, root: Path) -> None:
        argv = [sys.executable, "-c", _CHILD, str(root)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        assert self._read() == "ready"

    def ask(self, expression: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Place:
    """A shared mount on the host, as the sandboxes' directory is, with a root file system mounted below it."""

    def __init__(self, directory: Path) -> None:
        self.empty, self.shared, self.agent = directory / "empty", directory / "shared", directory / "agent"
        self.rootfs = self.shared / "rootfs"
        self.empty.mkdir()
        self.shared.mkdir()
        mounts.make_shared(self.shared)
        self.rootfs.mkdir()
        syscalls.mount("none", self.rootfs, "tmpfs", syscalls.MS_NODEV, "size=1m")
        (self.rootfs / "dir").mkdir()
        (self.rootfs / "dir" / "agent").touch()
        (self.rootfs / "elsewhere").symlink_to("/")
        self.agent.write_text("agent")
        self.child = Child(self.empty)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    descriptors = len(os.listdir("/proc/self/fd"))
    made = Place(tmp_path)
    yield made
    made.child.end()
    mounts.unmount(made.rootfs)
    mounts.unmount(made.shared)
    assert mounts.mounts_below(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_it_has_the_new_root_and_nothing_else(place: Place) -> None:
    child = place.child
    assert rootmounts.has_root(child.pid, place.empty)
    await rootmounts.replace_root(child.pid, place.rootfs, [Bind(place.agent, "/dir/agent")])
    assert rootmounts.has_root(child.pid, place.rootfs)
    assert child.ask("sorted(os.listdir('/'))") == "['dir', 'elsewhere']"
    assert child.ask("sorted(os.listdir('/..'))") == "['dir', 'elsewhere']"
    assert child.ask("Path('/mine').write_text('x')") == "1"
    assert (place.rootfs / "mine").read_text() == "x"
    # What lies over a file in there lies over none on the host, and is read-only.
    assert child.ask("Path('/dir/agent').read_text()") == "'agent'"
    assert (place.rootfs / "dir" / "agent").read_text() == ""
    for attack in ("os.chmod('/dir/agent', 0o666)", "open('/dir/agent', 'a')", "os.chown('/dir/agent', 1, 1)"):
        assert "Read-only" in child.ask(attack)
    assert stat.S_IMODE(place.agent.stat().st_mode) != 0o666
    # The empty directory is nobody's root any more, and not kept busy.
    place.empty.rmdir()


async def test_the_host_unmounts_while_it_lives(place: Place) -> None:
    await rootmounts.replace_root(place.child.pid, place.rootfs, [])
    mounts.unmount(place.rootfs)
    assert not mounts.is_mounted(place.rootfs)
    assert place.child.ask("sorted(os.listdir('/'))") == "['dir', 'elsewhere']"


@pytest.mark.parametrize("target", ["/elsewhere/dir/agent", "/missing", "/dir/missing"])
async def test_a_target_that_is_not_there_or_behind_a_link_is_refused(place: Place, target: str) -> None:
    with pytest.raises(OSError):
        await rootmounts.replace_root(place.child.pid, place.rootfs, [Bind(place.agent, target)])


async def test_only_what_is_among_its_own_mounts_is_changed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mount namespace of its own"):
        await rootmounts.replace_root(os.getpid(), tmp_path, [])
    child = Child(tmp_path)
    child.end()
    with pytest.raises(FileNotFoundError):
        await rootmounts.replace_root(child.pid, tmp_path, [])
    assert mountcalls.available()
    assert not mountcalls.available("sparc")
