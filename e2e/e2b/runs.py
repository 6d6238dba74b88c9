"""Running an installed client's checks, and what they said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from e2e.e2b.clients import Client, install

ROOT = Path(__file__).parents[2]
RUNNERS = Path(__file__).parent / "runners"
RUN_TIMEOUT_S = 420

Status = Literal["ok", "later", "absent", "fail"]


@dataclass(frozen=True)
class Server:
    """Where the daemon is, a key of it, and a key of another project of it. `image`: one to build templates from."""

    url: str
    key: str
    other_key: str
    image: str | None = None


@dataclass(frozen=True)
class Result:
    """How one check went. `reason` tells why when `status` is not "ok"; `methods` are those it covers here."""

    check: str
    methods: tuple[str, ...]
    status: Status
    reason: str
    ms: int


@dataclass(frozen=True)
class Report:
    """All results of one client in one flavour ("sync", "async", "js", "cli"), and its public methods."""

    client: Client
    flavour: str
    public: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        return f"{self.client.name}-{self.flavour}" if self.client.flavour == "py" else self.client.name

    @property
    def untested(self) -> list[str]:
        """Public methods that no check covers."""
        covered = {method for result in self.results for method in result.methods}
        return sorted(set(self.public) - covered)


def columns(clients: list[Client]) -> Iterator[tuple[Client, str]]:
    """Every client with each flavour it can be tried in."""
    for client in clients:
        for flavour in ("sync", "async") if client.flavour == "py" else (client.flavour,):
            yield client, flavour


def run(client: Client, flavour: str, server: Server) -> Report:
    """Try `client` against `server`. AssertionError with what it said when the runner itself broke."""
    home = install(client)
    command = {
        "py": [str(home / "bin/python"), "-m", "e2e.e2b.runners", flavour],
        "js": ["node", str(RUNNERS / "js/main.mjs"), str(home)],
        "cli": [sys.executable, "-m", "e2e.e2b.runners.cli", str(home)],
    }[client.flavour]
    done = subprocess.run(
        command,
        env=_environment(server),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines or lines[0].get("client") != client.version:
        said = (done.stdout[-2000:] + done.stderr[-4000:]).strip()
        raise AssertionError(f"the runner of {client.name} {flavour} ended with {done.returncode}:\n{said}")
    results = tuple(Result(**{**line, "methods": tuple(line["methods"])}) for line in lines[1:])
    return Report(client, flavour, tuple(lines[0]["public"]), results)


def run_many(client: Client, server: Server) -> dict[str, Any]:
    """What runners/many.py says after many sandboxes at once with a Python client."""
    command = [str(install(client) / "bin/python"), "-m", "e2e.e2b.runners.many"]
    done = subprocess.run(
        command, env=_environment(server), cwd="/", capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stdout}{done.stderr}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _environment(server: Server) -> dict[str, str]:
    """What a person sets, and nothing of the machine's that points a client elsewhere."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("E2B_")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "E2B_API_KEY": server.key,
        "E2B_API_URL": server.url,
        "E2B_SANDBOX_URL": server.url,
        "E2B_VOLUME_API_URL": server.url,
        "E2B_OTHER_KEY": server.other_key,
        "E2B_TEST_IMAGE": server.image or "",
    }
