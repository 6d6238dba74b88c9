"""What a sandbox of a build changes becomes a layer, with every runtime.

Packages are installed with what the machine lends; the layer is started from and exported, and nothing of the machine
or the runtime is in it.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atolld.core.sandbox import Resources
from atolld.daemon import linux
from atolld.daemon.settings import Settings
from atolld.foundation.clock import SystemClock
from atolld.foundation.ids import new_sandbox_id
from atolld.guest.commands import run_command
from atolld.guest.files import put_file
from atolld.images.build_settings import DIRECTORY, BuildSettings
from atolld.images.exporting import Exported, export
from atolld.images.layers import LayerStore
from atolld.images.oci import Platform, RunConfig
from atolld.images.templates import TemplateStore
from atolld.node.interface import Launch, Node

TOKEN = "t" * 32
RUNTIMES = ("gvisor", "container")

pytestmark = pytest.mark.real


class Built:
    """A node of its own on this machine, and the layers that a test made with it."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self.node = node
        self.base = TemplateStore(settings.cache_dir).get("base").layers
        self.store = LayerStore(settings.cache_dir)
        self.digests: list[str] = []

    async def run(self, runtime: str, layers: tuple[Path, ...], *scripts: str, lend: bool = True) -> Path | None:
        """The layer of what the scripts change, as root; None when they change nothing."""
        lent = await BuildSettings(lend).for_sandbox(layers)
        id, digest = new_sandbox_id(), secrets.token_hex(32)
        resources = Resources(cpu=2, memory_mib=1024)
        launched = await self.node.launch(
            Launch(id, runtime, layers, resources, lent.network, {}, TOKEN, "base", "build", user="root")
        )
        self.digests.append(digest)
        try:
            for path, contents in lent.files.items():
                await put_file(launched.address, TOKEN, path, contents)
            for script in scripts:
                await self._run(launched.address, script, lent.envs)
            changed = await self.node.seal(id, digest, {"step": scripts[-1]}, forbidden=lent.forbidden)
        finally:
            await self.node.terminate(id)
        assert self.node.capacity().sandboxes == 0
        layer = self.store.get(digest)
        assert changed is (layer is not None)
        return None if layer is None else layer.root

    async def _run(self, address: str, script: str, envs: Mapping[str, str]) -> None:
        said = bytearray()
        argv = ["/bin/sh", "-ec", script]
        code = await run_command(
            address, TOKEN, argv, user="root", envs=envs, on_output=lambda _name, piece: said.extend(piece)
        )
        assert code == 0, f"{script}: {said[-2000:].decode(errors='replace')}"


@asynccontextmanager
async def a_node(directory: Path) -> AsyncIterator[Built]:
    settings = Settings(
        instance="t" + secrets.token_hex(3),
        state_dir=directory / "state",
        run_dir=directory / "run",
        ready_slots=1,
        ready_layers=0,
        ready_containers=0,
    )
    made = await linux.build(settings, SystemClock())

    async def died(death: object) -> None:
        raise AssertionError(f"a sandbox died: {death}")

    await made.node.start(died)
    await made.node.recover([])
    built = Built(made.node, settings)
    try:
        yield built
    finally:
        await made.node.close()
        await made.remove_all()
        for digest in built.digests:
            built.store.remove(digest)


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_changes_become_a_layer_to_start_from(tmp_path: Path, runtime: str) -> None:
    async with a_node(tmp_path) as built:
        assert (
            await built.run(
                runtime, built.base, "true; ls /proc /sys /dev >/dev/null; touch /dev/shm/x /run/.y; rm /run/.y"
            )
            is None
        )
        one = await built.run(
            runtime,
            built.base,
            "mkdir /srv/app; echo one > /srv/app/a; ln /srv/app/a /srv/app/b; ln -s a /srv/app/l",
            "useradd -m app; chown app:app /srv/app; chmod 2750 /srv/app; mv /opt /opt2; touch /tmp/kept",
            "chmod 711 /",
        )
        assert one is not None
        assert {"srv/app/a", "opt2", "opt", "tmp/kept", "home/app/.profile"} <= names(one)
        assert not names(one) & {".atoll", "dev", "proc", "sys", "etc/resolv.conf", "run", "tmp/.X11-unix"}
        two = await built.run(
            runtime,
            (*built.base, one),
            'test "$(cat /srv/app/l)" = one; test "$(stat -c %h /srv/app/a)" = 2',
            'test "$(stat -c %a /)" = 711',
            'test "$(stat -c %U:%G:%a /srv/app)" = app:app:2750; test -d /opt2; ! test -e /opt; rm -r /srv/app; id app',
        )
        assert two is not None and names(two) == {"srv", "srv/app"}
        assert await built.run(runtime, (*built.base, one, two), "! test -e /srv/app; test -e /tmp/kept") is None


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_package_managers_work_with_what_the_machine_lends(tmp_path: Path, runtime: str) -> None:
    async with a_node(tmp_path) as built:
        root = await built.run(
            runtime,
            built.base,
            "apt-get update && apt-get install -y jq",
            "apt-get install -y --no-install-recommends cowsay && /usr/games/cowsay moo",
            "pip install --break-system-packages six && python3 -c 'import six'",
            "npm install -g is-odd && node -e 'require(\"/usr/local/lib/node_modules/is-odd\")'",
        )
        assert root is not None
        found = names(root)
        assert {"usr/games/cowsay", "usr/local/lib/node_modules/is-odd/package.json"} <= found
        assert not [name for name in found if name.startswith(("dev", "var/cache/apt/pkgcache"))]
        # Nothing that was lent is in a file, by name or by what it says.
        for path in (root / name for name in found):
            if path.is_file() and not path.is_symlink():
                assert DIRECTORY.encode() not in path.read_bytes(), path
        await built.run(runtime, (*built.base, root), "/usr/games/cowsay moo; python3 -c 'import six'", lend=False)


async def test_a_layer_is_exported_as_an_image(tmp_path: Path) -> None:
    async with a_node(tmp_path) as built:
        root = await built.run("gvisor", built.base, "mv /opt /opt2; rm /usr/bin/jq; mkdir /new; echo x > /new/x")
        assert root is not None
        archive = io.BytesIO(b"".join(export(Exported((root,), RunConfig(), Platform("linux", "amd64"), None))))
        with tarfile.open(fileobj=archive) as outer:
            (described,) = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
            layer = outer.extractfile(described["Layers"][0])
            assert layer is not None
            with tarfile.open(fileobj=layer) as inner:
                found = set(inner.getnames())
    assert {"usr/bin/.wh.jq", ".wh.opt", "new/x", "opt2"} <= found
    assert not [name for name in found if name.startswith((".atoll", "dev", "proc"))]


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path, runtime: str) -> None:
    async with a_node(tmp_path) as built:
        root = await built.run(runtime, built.base, "sleep 1000 & echo begun > /srv/begun")
        assert root is not None and (root / "srv/begun").read_text() == "begun\n"
