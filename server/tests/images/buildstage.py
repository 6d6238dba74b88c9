"""A cache with a `BuildMachine` over it, and images of a few files, for the tests of this folder."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from atolld.core.build import Copy, Where
from atolld.foundation.clock import ManualClock
from atolld.foundation.ids import ProjectId
from atolld.host.instance import Instance
from atolld.images.buildmachine import BuildMachine
from atolld.images.contextstore import ContextStore
from atolld.images.engine import ImageEngine
from atolld.images.layers import LayerStore
from atolld.images.templates import TemplateStore

PROJECT = ProjectId("project1")
WHERE = Where(1, 1, "COPY")


class Stage:
    """`tree(name)` is what an image of the layers shows, path to kind and contents."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache"
        self.clock = ManualClock()
        self.store = LayerStore(self.cache)
        self.contexts = ContextStore(self.cache, self.clock, reserve_bytes=0)
        self.templates = TemplateStore(self.cache, clock=self.clock)
        self.instance = Instance.named("tbuild", state_dir=directory / "state", run_dir=directory / "run")
        images = ImageEngine(self.cache, self.templates, clock=self.clock)
        self.machine = BuildMachine(
            self.cache, self.templates, images, self.instance, clock=self.clock, contexts=self.contexts
        )
        self._made = 0

    def digest(self) -> str:
        """One that is not used yet."""
        self._made += 1
        return f"{self._made:064x}"

    def layer(self, files: Mapping[str, str | None]) -> str:
        """A layer of files: None for a directory, `-> x` for a link."""
        building = self.store.begin()
        fill(building / "root", files)
        digest = self.digest()
        self.store.commit(building, digest, {})
        return digest

    def root(self, digest: str) -> Path:
        return self.store.directory / digest / "root"

    async def upload(self, files: Mapping[str, str | None], name: str = "ctx") -> str:
        await self.machine.put_files(PROJECT, name, pieces(tar_of(files)))
        return name

    async def copy(self, step: Copy, *lower: str, workdir: str = "/", stage: tuple[str, ...] | None = None) -> Path:
        """Returns the root of the new layer."""
        digest = self.digest()
        await self.machine.copy(PROJECT, step, stage, lower, workdir, digest, {"step": step.where.text})
        return self.root(digest)


def fill(root: Path, files: Mapping[str, str | None]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)


def tar_of(files: Mapping[str, str | None], mode: str = "w:gz") -> bytes:
    """As `fill`, in a tar; every file is of the second 1000."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.uid, info.gid, info.mode = 1000, 501, 20, 0o640
            if text is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
                tar.addfile(info)
            elif text.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, text[3:]
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def tree(root: Path) -> dict[str, str | None]:
    """What is below `root`, as `fill` takes it; directories that hold something are left out."""
    found: dict[str, str | None] = {}
    for parent, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(parent, name)
            where = str(path.relative_to(root))
            if path.is_symlink():
                found[where] = f"-> {os.readlink(path)}"
            elif path.is_dir():
                if not os.listdir(path):
                    found[where] = None
            else:
                found[where] = path.read_text()
    return found
