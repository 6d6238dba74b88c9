"""The bare runtime: what `runsc` alone does with the same root file system and a prepared network namespace.

Everything around it (overlay, namespace, addresses, bundle) is made beforehand and not timed, and the command is run
the way its manual has it: `runsc run`, `runsc exec`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
]
SUBNET = "10.250"


@dataclass
class Box:
    """Prepared surroundings of one bare sandbox."""

    name: str
    bundle: Path
    rootfs: Path
    number: int


class BareRuntime:
    """Bare runsc sandboxes over the root file system `layer`; `close` removes all of them."""

    def __init__(self, runsc: Path, layer: Path, platform: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="atoll-bench-"))
        self.prefix = f"b{os.getpid() % 10000}"
        self._runsc = runsc
        self._layer = layer
        self._platform = platform
        self._boxes: list[Box] = []
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(self.base)], check=True)

    def prepare(self, args: Sequence[str]) -> Box:
        """Make one box whose command is `args`."""
        number = len(self._boxes)
        home = self.base / str(number)
        rootfs = home / "rootfs"
        for name in ("upper", "work", "rootfs"):
            (home / name).mkdir(parents=True)
        options = f"lowerdir={self._layer},upperdir={home / 'upper'},workdir={home / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(rootfs)], check=True)
        name = f"{self.prefix}-{number}"
        box = Box(name, home, rootfs, number)
        self._boxes.append(box)
        self._network(name, number)
        self.write_config(box, args)
        return box

    def write_config(self, box: Box, args: Sequence[str]) -> None:
        """Write the bundle's configuration, of the kind `runsc spec` makes."""
        config = {
            "ociVersion": "1.0.0",
            "hostname": "bare",
            "root": {"path": str(box.rootfs), "readonly": False},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": list(args),
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            ],
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                    {"type": "network", "path": f"/run/netns/{box.name}"},
                ]
            },
        }
        (box.bundle / "config.json").write_text(json.dumps(copy.deepcopy(config)))

    def run(self, box: Box) -> float:
        """Seconds of a whole `runsc run` of the box's command."""
        begun = time.perf_counter()
        done = subprocess.run(self.command("run", f"--bundle={box.bundle}", box.name), capture_output=True, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            raise RuntimeError(f"bare runsc failed: {done.stderr.decode(errors='replace')[-800:]}")
        self.give_addresses(box)
        return seconds

    def run_many(self, boxes: list[Box], parallel: int) -> float:
        """Seconds until all of `boxes` were run, `parallel` at once."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(self.run, boxes))
        return time.perf_counter() - begun

    def start(self, box: Box) -> None:
        """Start the box and leave it running."""
        subprocess.run(
            self.command("run", "--detach", f"--bundle={box.bundle}", box.name),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def execute(self, box: Box, args: Sequence[str]) -> float:
        """Seconds of a whole `runsc exec`."""
        begun = time.perf_counter()
        subprocess.run(self.command("exec", box.name, *args), check=True, capture_output=True)
        return time.perf_counter() - begun

    def delete(self, box: Box) -> None:
        """End the box; gone is success."""
        subprocess.run(self.command("delete", "--force", box.name), check=False, capture_output=True)

    def close(self) -> None:
        """End and remove everything."""
        for box in self._boxes:
            self.delete(box)
            subprocess.run(["umount", str(box.rootfs)], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "delete", box.name], check=False, capture_output=True)
        subprocess.run(["umount", "-l", str(self.base)], check=False, capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        """A command line of runsc."""
        flags = [f"--root={self.base}/state", f"--platform={self._platform}", "--network=sandbox", "--ignore-cgroups"]
        # The cure for kernels where runsc takes every namespace for the root one (docs/runtimes.md).
        cure = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc/sys/net && exec "$@"', "sh"]
        return [*cure, str(self._runsc), *flags, *words]

    def _network(self, name: str, number: int) -> None:
        """A namespace with a veth pair, addresses and a route, as every real sandbox has one."""
        third, fourth = divmod(number * 4, 256)

        def run(*words: str) -> None:
            subprocess.run(["ip", *words], check=True, capture_output=True)

        run("netns", "add", name)
        run("link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("addr", "add", f"{SUBNET}.{third}.{fourth + 1}/30", "dev", f"{name}h")
        run("link", "set", f"{name}h", "up")
        run("-n", name, "link", "set", "lo", "up")
        run("-n", name, "link", "set", "eth0", "up")
        run("-n", name, "addr", "add", f"{SUBNET}.{third}.{fourth + 2}/30", "dev", "eth0")
        run("-n", name, "route", "add", "default", "via", f"{SUBNET}.{third}.{fourth + 1}")

    def give_addresses(self, box: Box) -> None:
        """runsc takes the addresses for its own stack; a box that is run again needs them back."""
        third, fourth = divmod(box.number * 4, 256)
        subprocess.run(
            ["ip", "-n", box.name, "addr", "add", f"{SUBNET}.{third}.{fourth + 2}/30", "dev", "eth0"],
            check=False,
            capture_output=True,
        )
        subprocess.run(
            ["ip", "-n", box.name, "route", "add", "default", "via", f"{SUBNET}.{third}.{fourth + 1}"],
            check=False,
            capture_output=True,
        )
