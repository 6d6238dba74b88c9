"""Images from a real registry: pulled with faults on the way, started from, forgotten."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from atoll import AtollError, Config, Daemon, NotFound, PermissionDenied, Sandbox, Snapshot
from e2e.builds import with_own_cache
from e2e.conftest import Daemon as Served
from e2e.registry import OCI, PASSWORD, PROGRAM, USER, LocalRegistry

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="no registry here: scripts/registry.sh"),
    pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed: apt-get install zstd"),
]
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
RUN = {"Env": ["GREETING=hello", "PATH=/opt/app:/usr/bin:/bin"], "User": "nobody", "WorkingDir": "/opt/app"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    made = LocalRegistry.make(tmp_path_factory.mktemp("registry") / "registry")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from with_own_cache(tmp_path_factory.mktemp("atoll-images"))


def tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            out.addfile(info, io.BytesIO(data))
    return made.getvalue()


@pytest.fixture(scope="module")
def pushed(registry: LocalRegistry, served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image made from `base`, its layers compressed in three ways, behind an index of two platforms."""
    archive = tmp_path_factory.mktemp("export") / "base.tar"
    Daemon(served.config).images.export("base", archive)
    with tarfile.open(archive) as out:
        index = json.loads(_read(out, "index.json"))
        manifest = json.loads(_read(out, _blob(index["manifests"][0]["digest"])))
        base = _read(out, _blob(manifest["layers"][0]["digest"]))
    archive.unlink()
    layers: list[tuple[bytes | Path, str]] = [
        (base, ""),
        (
            tar({"opt/": b"", "opt/app/": b"", "opt/app/greet": b"#!/bin/sh\necho $GREETING\n", "etc/.wh.motd": b""}),
            "gzip",
        ),
        (tar({"tmp/from-image": b"x", "opt/app/data": os.urandom(100_000)}), "zstd"),
    ]
    other = "arm64" if ARCH == "amd64" else "amd64"
    entries = [
        registry.image("team/app", "other", [(tar({"a": b""}), "gzip")], {}, other),
        registry.image("team/app", "this", layers, RUN, ARCH),
    ]
    registry.manifest("team/app", "1", f"{OCI}index.v1+json", {"manifests": entries})
    return f"{registry.name}/team/app:1"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def pull(config: Config, name: str, on_step: Any = None) -> Mapping[str, Any]:
    return Daemon(config).images.pull(name, username=USER, password=PASSWORD, on_step=on_step)


def test_without_the_right_credentials_nothing_is_given(served: Served, pushed: str) -> None:
    images = Daemon(served.config).images
    with pytest.raises(PermissionDenied, match="user name and a password"):
        images.pull(pushed)
    with pytest.raises(PermissionDenied, match="with these credentials"):
        images.pull(pushed, username=USER, password="wrong")
    with pytest.raises(NotFound):
        pull(served.config, pushed + "0")
    assert images.list() == []


def test_a_pull_goes_on_after_the_daemon_or_the_registry_was_killed(
    served: Served, registry: LocalRegistry, pushed: str
) -> None:
    parts = Path(served.settings["ATOLL_CACHE_DIR"]) / "images" / "blobs"
    reached = threading.Event()
    outcomes: list[object] = []

    def arrived(step: Mapping[str, Any]) -> None:
        if step.get("bytes"):
            reached.set()

    def interrupted() -> None:
        try:
            outcomes.append(pull(served.config, pushed, arrived))
        except AtollError as error:
            outcomes.append(error)

    def kept() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in parts.glob("*.part")}

    for kill in (served.kill_hard, registry.stop):
        reached.clear()
        before = kept()
        pulling = threading.Thread(target=interrupted)
        pulling.start()
        assert reached.wait(30)
        kill()
        pulling.join(120)
        if served.process is not None and served.process.poll() is not None:
            served.start()
        if registry.process is None:
            registry.start()
        # Unless it was faster than we were: then there was nothing left to interrupt.
        if isinstance(outcomes[-1], AtollError):
            # One that is gone came to its end meanwhile.
            assert all(size >= before[name] for name, size in kept().items() if name in before)
            assert Daemon(served.config).images.list() == []
    phases: list[str] = []
    image = pull(served.config, pushed, lambda step: phases.append(step["phase"]))
    assert (image["name"], image["user"], len(image["layers"])) == (pushed, "nobody", 3)
    assert phases[-1] == "done"
    assert not list(parts.glob("*.part"))
    assert not list(parts.parent.parent.glob("layers/.building-*"))


def test_a_sandbox_starts_from_it(served: Served, pushed: str) -> None:
    pull(served.config, pushed)
    with Sandbox.create(template=pushed, runtime="gvisor", timeout_s=300, config=served.config) as sandbox:
        assert sandbox.run("id -un; pwd; greet; cat /proc/1/comm >/dev/null && echo up").stdout.split() == [
            "nobody",
            "/opt/app",
            "hello",
            "up",
        ]
        assert sandbox.run("test ! -e /etc/motd && stat -c %a /tmp && cat /tmp/from-image").stdout == "1777\nx"
        assert sandbox.run("echo kept > /tmp/kept && python3 -c 'print(6*7)'").stdout == "42\n"
        for with_memory in (True, False):
            sandbox.pause(keep_memory=with_memory)
            assert sandbox.run("id -un; pwd; greet; cat /tmp/kept").stdout == "nobody\n/opt/app\nhello\nkept\n"
        kept = sandbox.snapshot("from-image")
        with Sandbox.create(template="from-image", timeout_s=300, config=served.config) as other:
            assert other.run("id -un; cat /tmp/kept; greet").stdout == "nobody\nkept\nhello\n"
        kept.delete()


def test_a_container_starts_from_it(served: Served, pushed: str) -> None:
    with Sandbox.create(template=pushed, runtime="container", timeout_s=300, config=served.config) as sandbox:
        assert sandbox.run("id -un; pwd; greet").stdout == "nobody\n/opt/app\nhello\n"


def test_a_second_pull_fetches_nothing(served: Served, pushed: str) -> None:
    phases: set[str] = set()
    began = time.monotonic()
    pull(served.config, pushed, lambda step: phases.add(step["phase"]))
    assert phases == {"resolve", "present", "done"}
    assert time.monotonic() - began < 5


def test_an_image_that_is_in_use_keeps_its_layers(served: Served, pushed: str) -> None:
    images = Daemon(served.config).images
    layers = Path(served.settings["ATOLL_CACHE_DIR"]) / "layers"
    own = set(pull(served.config, pushed)["layers"])
    # The machine's own cache may hold what was built a moment ago, which stays for an hour.
    others = set(os.listdir(layers)) - own
    with Sandbox.create(template=pushed, runtime="gvisor", timeout_s=300, config=served.config) as sandbox:
        assert images.delete(pushed)
        with pytest.raises(NotFound):
            Sandbox.create(template=pushed, config=served.config)
        images.prune()
        assert own <= set(os.listdir(layers))
        assert sandbox.run("greet").stdout == "hello\n"
    assert [*Snapshot.list(config=served.config)] == []
    deadline = time.monotonic() + 30
    # The end of the sandbox removes them as well; what it removes is there, under another name, until it is gone.
    while not set(os.listdir(layers)) <= others and time.monotonic() < deadline:
        images.prune()
    assert set(os.listdir(layers)) <= others
