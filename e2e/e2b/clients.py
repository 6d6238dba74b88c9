"""The official clients this tree is tried with, and where each is installed.

`python -m e2e.e2b.clients [all]` installs the ones of the default run (or all) and prints where they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll")) / "e2b"
INSTALL_TIMEOUT_S = 600

Flavour = Literal["py", "js", "cli"]


@dataclass(frozen=True)
class Client:
    """One released client: what it is, which release, and the flavours that the default run has of it."""

    flavour: Flavour
    version: str
    default: tuple[str, ...] = ()
    # The table of versions.toml that names it: "client", or "interpreter" for the code interpreter's.
    table: str = "client"

    @property
    def name(self) -> str:
        prefix = "" if self.table == "client" else f"{self.table}-"
        return f"{prefix}{self.flavour}-{self.version}"

    @property
    def lock(self) -> Path:
        return HERE / "clients" / self.name / ("requirements.txt" if self.flavour == "py" else "package-lock.json")

    @property
    def home(self) -> Path:
        """Where it is or will be installed: named by everything that decides what lies there."""
        made_with = sys.version if self.flavour == "py" else ""
        digest = hashlib.sha256(self.lock.read_bytes() + made_with.encode()).hexdigest()[:24]
        return CACHE / f"{self.name}-{digest}"


def load(table: str = "client") -> list[Client]:
    """All clients of one table of versions.toml, in its order (oldest first within a flavour)."""
    with open(HERE / "versions.toml", "rb") as file:
        return [
            Client(row["flavour"], row["version"], tuple(row.get("default", ())), table)
            for row in tomllib.load(file)[table]
        ]


def install(client: Client) -> Path:
    """Install `client` from its lock file unless it is there; returns its home. CalledProcessError when that fails.

    Where packages come from is the machine's configuration of pip and npm; the lock's hashes hold in any case.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{client.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not client.home.exists():
            print(f"e2b: installing {client.name}", file=sys.stderr)
            building = Path(tempfile.mkdtemp(prefix=".building-", dir=CACHE))
            try:
                _fill(client, building)
                building.chmod(0o755)
                # Renamed in one step, so that what has the name is whole. Neither tool's result knows its own place.
                building.rename(client.home)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return client.home


def _fill(client: Client, into: Path) -> None:
    if client.flavour == "py":
        _do([sys.executable, "-m", "venv", str(into)])
        pip = [str(into / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _do([*pip, "--require-hashes", "-r", str(client.lock)])
    else:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(client.lock.with_name(name), into)
        _do(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(into)])


def _do(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    for each in [*load(), *load("interpreter")]:
        if each.default or sys.argv[1:] == ["all"]:
            print(install(each))
