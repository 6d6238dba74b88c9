"""What exists on the host right now that could be ours: counted before and after.

Everything is read from the kernel, not from the daemon's own books.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Census:
    """Things of one instance on this host, by kind."""

    processes: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    cgroups: frozenset[str]
    loops: frozenset[str]
    files: frozenset[str]
    saves: frozenset[str]
    rules: str

    def counts(self) -> dict[str, int]:
        """How many there are of each kind: pools renew what they hold, so names differ where numbers must not."""
        return {
            field.name: len(value) if isinstance(value := getattr(self, field.name), frozenset) else value.count("\n")
            for field in fields(self)
        }

    def more_than(self, before: Census) -> dict[str, int]:
        """How many more of each kind there are than before; empty when nothing was left behind."""
        then = before.counts()
        return {kind: count - then[kind] for kind, count in self.counts().items() if count > then[kind]}

    def difference(self, before: Census) -> dict[str, object]:
        """What is here now and was not before, by kind; empty when nothing is."""
        new: dict[str, object] = {}
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(before, field.name)
            if isinstance(now, frozenset):
                if now - then:
                    new[field.name] = sorted(now - then)
            elif now != then:
                new[field.name] = now
        return new


def take(instance: str, state_dir: Path) -> Census:
    """Count everything of `instance`, whose files lie in `state_dir` and whose links begin with its name."""
    return Census(
        processes=_processes(str(state_dir), instance),
        mounts=frozenset(line for line in _mount_points() if str(state_dir) in line or f"/{instance}-" in line),
        namespaces=_entries(Path("/run/netns"), f"{instance}-"),
        links=_entries(Path("/sys/class/net"), f"{instance}-"),
        cgroups=_cgroups(instance),
        loops=_loops(str(state_dir)),
        files=frozenset(
            str(path.relative_to(state_dir))
            for name in ("sandboxes", "layers")
            for path in (state_dir / name).glob("[!.]*")
        ),
        saves=_entries(state_dir / "layers" / ".saves", ""),
        rules=_rules(instance),
    )


def _processes(state_dir: str, instance: str) -> frozenset[str]:
    """Runtime processes of the instance: `runsc` and `runc` name their state directory on the command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        text = b" ".join(words).decode(errors="replace")
        if "runsc" in text.split(" ")[0] or "runc" in text.split(" ")[0] or "atoll-agent" in text:
            if state_dir in text or f"/{instance}/" in text:
                found.add(f"{entry.name}:{text[:120]}")
    return frozenset(found)


def _mount_points() -> list[str]:
    return [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _entries(folder: Path, prefix: str) -> frozenset[str]:
    return frozenset(name for name in os.listdir(folder) if name.startswith(prefix)) if folder.exists() else frozenset()


def _cgroups(instance: str) -> frozenset[str]:
    root = Path("/sys/fs/cgroup")
    return frozenset(
        str(path) for path in [*root.glob(f"{instance}/*"), *root.glob(f"*/{instance}/*")] if path.is_dir()
    )


def _loops(state_dir: str) -> frozenset[str]:
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            path = backing.read_text().strip()
        except OSError:
            continue
        if path.startswith(state_dir):
            found.add(path)
    return frozenset(found)


def _rules(instance: str) -> str:
    listing = subprocess.run(
        ["nft", "list", "table", "inet", instance], capture_output=True, text=True, check=False, timeout=20
    )
    return "\n".join(line for line in listing.stdout.splitlines() if "counter" not in line)
