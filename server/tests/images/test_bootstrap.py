"""On the real tools: what a killed build leaves, and what the finished image holds."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.errors import Internal
from atolld.host import mounts
from atolld.images.bootstrap import bootstrap
from atolld.images.build_environment import BuildEnvironment, host_release, inherited_environment
from atolld.images.packages import host_architecture
from atolld.images.progress import Progress
from atolld.images.public_hosts import with_public_sources
from atolld.images.recipe import base_recipe
from atolld.images.scrub import check_no_traces
from atolld.images.templates import Template, TemplateStore

pytestmark = pytest.mark.real

BUILD = """
import asyncio, sys
from pathlib import Path
from atolld.images.templates import TemplateStore

def tell(step):
    print(step.phase, flush=True)

asyncio.run(TemplateStore(Path(sys.argv[1])).ensure_base(tell))
"""


@pytest.fixture(scope="module")
def base() -> Template:
    """The machine's own `base`, built now if it is not there."""
    return asyncio.run(TemplateStore().ensure_base())


INSIDE = """
set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/merged"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/merged"
mount --bind /dev "$2/merged/dev"
exec chroot --userspec="$3" "$2/merged" /bin/bash -lc "$4"
"""


def _in(template: Template, scratch: Path, command: str, user: str = "1000:1000") -> str:
    """What `command` prints in a throw-away copy of the template; its mounts end with it."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", INSIDE, "sh", str(template.layers[0]), str(scratch), user, command],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/home/user"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TOOLS = "git curl wget ip ps pstree less unzip zip xz make pkg-config ping ssh jq nano vi sudo"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -c 'print(6*7)'", "42"),
        ("python3 -c 'import venv, ensurepip, ssl, sqlite3; print(1)'", "1"),
        ("pip --version | cut -d' ' -f1", "pip"),
        ("node -e 'console.log(6*7)'", "42"),
        ("npm --version >/dev/null && echo yes", "yes"),
        ("echo 'int main(void){return 7;}' | gcc -x c -o /dev/null - && echo yes", "yes"),
        (f"for c in {TOOLS}; do command -v $c >/dev/null || echo no $c; done", ""),
        ("id -un; id -u; echo ~user; sudo -n id -u", "user\n1000\n/home/user\n0"),
        ("stat -c '%U %a' ~user ~user/.bashrc ~user/.profile", "user 755\nuser 644\nuser 644"),
        ("LC_ALL=C.UTF-8 locale charmap", "UTF-8"),
    ],
)
def test_the_tools_an_agent_expects_are_there(base: Template, tmp_path: Path, command: str, expected: str) -> None:
    assert _in(base, tmp_path, command) == expected


async def _environment() -> BuildEnvironment:
    return await inherited_environment(await with_public_sources(host_release()))


def test_the_image_knows_nothing_of_the_machine_that_built_it(base: Template) -> None:
    root = base.layers[0]
    environment = asyncio.run(_environment())
    machine_id = Path("/etc/machine-id")
    own = [machine_id.read_text().strip()] if machine_id.exists() else []
    resolver = Path("/etc/resolv.conf").read_text().splitlines()
    own += [line.split()[1] for line in resolver if line.startswith("nameserver ") and "127.0.0." not in line]
    check_no_traces(root, [*environment.secrets_of_host, *own])
    assert (root / "etc/machine-id").read_bytes() == b""
    assert list((root / "dev").iterdir()) == []
    assert not any("mmdebstrap" in path.name for path in (root / "etc").rglob("*"))


def test_a_killed_build_leaves_no_mount_and_no_process_and_the_next_clears_its_directory(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        while not (phase := build.stdout.readline()).startswith("install-1"):
            assert phase, "the build ended early"
        (leftover,) = (tmp_path / "layers").iterdir()
        build.kill()
    _wait_until("its processes are gone", lambda: not _processes_naming(str(leftover)))
    assert mounts.mounts_below(tmp_path) == []
    store = TemplateStore(tmp_path)
    assert store.list() == ()
    asyncio.run(store.prune())
    assert list((tmp_path / "layers").iterdir()) == []


def _processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if text.encode() in command:
            found.append(path.parent.name)
    return found


def _wait_until(what: str, true: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"after {timeout_s:g} s still not: {what}"
        time.sleep(0.05)


def test_a_failing_build_tells_the_tools_own_words(tmp_path: Path) -> None:
    release = host_release()
    recipe = dataclasses.replace(base_recipe(release, host_architecture()), packages=("no-such-package-anywhere",))
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    steps: list[Progress] = []

    async def build() -> None:
        await bootstrap(recipe, await inherited_environment(release), root, log, steps.append)

    with pytest.raises(Internal, match="no-such-package-anywhere"):
        asyncio.run(build())
    assert "no-such-package-anywhere" in log.read_text()
    assert steps[0].phase == "index"


def test_a_cancelled_build_ends_its_processes(tmp_path: Path) -> None:
    release = host_release()
    root = tmp_path / "root"
    root.mkdir()

    async def build() -> None:
        environment = await inherited_environment(release)
        started = asyncio.Event()
        recipe = base_recipe(release, host_architecture())
        work = bootstrap(recipe, environment, root, tmp_path / "log", lambda _: started.set())
        task = spawn(work, name="build")
        await started.wait()
        assert _processes_naming(str(root))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(build())
    _wait_until("its processes are gone", lambda: not _processes_naming(str(root)))
    assert mounts.mounts_below(tmp_path) == []
