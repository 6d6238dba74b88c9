"""A small image in a registry of the test's own, for templates that are built from images: a shell and a few tools of
`base`, without the user `user` and without sudo."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atolld.images.templates import TemplateStore
from e2e.registry import PROGRAM, LocalRegistry

CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
TOOLS = "bash cat chmod chown cp dash env find grep id ls mkdir passwd sh sleep stat touch useradd".split()
SETTINGS = "etc/login.defs etc/default/useradd etc/skel/.profile etc/nsswitch.conf etc/profile".split()
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": "root:x:0:\n",
    "etc/shadow": "root:*:20000:0:99999:7:::\n",
    "etc/gshadow": "root:*::\n",
    "image-marker": "from the image\n",
}
RUN = {"Env": ["FROM_IMAGE=yes", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/etc"}


@contextmanager
def pushed(directory: Path) -> Iterator[str | None]:
    """The reference of the image while its registry runs; None where there is no registry to be had."""
    if not PROGRAM.exists():
        yield None
        return
    registry = LocalRegistry.make(directory / "registry")
    try:
        registry.start()
        # The second for logging in with another account; what was pulled once is not asked for again.
        for repository in ("suite/small", "suite/account"):
            registry.image(repository, "1", [(_layer(_base()), "gzip")], RUN, ARCH)
        yield f"{registry.name}/suite/small:1"
    finally:
        registry.stop()


def _base() -> Path:
    return TemplateStore(CACHE).get("base").layers[0]


def _layer(root: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for name in ("tmp", "root", "home", "var", "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            out.addfile(info)
        for name in ("bin", "sbin", "lib", "lib64"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, f"usr/{name}"
            out.addfile(info)
        for name in sorted(_programs(root) | set(SETTINGS)):
            if (root / name).is_file():
                _add(out, name, (root / name).read_bytes(), (root / name).stat().st_mode & 0o7777)
        for name, text in ACCOUNTS.items():
            _add(out, name, text.encode(), 0o600 if "shadow" in name else 0o644)
    return made.getvalue()


def _add(out: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    out.addfile(info, io.BytesIO(data))


def _programs(root: Path) -> set[str]:
    """The tools and every library they need, as paths below `root` that lead through no link."""
    found: set[str] = set()
    for tool in TOOLS:
        path = next(place for place in ("/usr/bin", "/usr/sbin") if (root / place[1:] / tool).exists())
        found.add(f"{path}/{tool}"[1:])
        listed = subprocess.run(
            ["chroot", root, "ldd", f"{path}/{tool}"], capture_output=True, text=True, check=True, timeout=30
        )
        for word in listed.stdout.split():
            if word.startswith("/"):
                found.add(word[1:] if word.startswith("/usr/") else f"usr{word}")
    return found
