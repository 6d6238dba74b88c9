"""E2B's own clients, unmodified, against the daemon: every public method. All releases: `make compat`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from e2e.conftest import Daemon
from e2e.e2b import known
from e2e.e2b.clients import Client, install, load
from e2e.e2b.images import pushed
from e2e.e2b.other_project import key_of_another_project
from e2e.e2b.runs import Report, Server, run, run_many

DEFAULT = [(client, flavour) for client in load() for flavour in client.default]
# Much of a run is waiting for what takes its time.
AT_ONCE = 3

Runs = dict[tuple[Client, str], Future[Report]]


@pytest.fixture(scope="module")
def server(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pushed(tmp_path_factory.mktemp("registry")) as image:
        yield Server(daemon.url, daemon.key, key_of_another_project(daemon.state_dir), image)


@pytest.fixture(scope="module")
def runs(server: Server) -> Iterator[Runs]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {(client, flavour): pool.submit(run, client, flavour, server) for client, flavour in DEFAULT}


@pytest.mark.parametrize(("client", "flavour"), DEFAULT, ids=lambda part: getattr(part, "name", part))
def test_every_public_method(runs: Runs, daemon: Daemon, client: Client, flavour: str) -> None:
    complaints = known.complaints(runs[client, flavour].result(), known.load())
    assert not complaints, "\n".join([*complaints, daemon.errors()])


def test_twenty_clients_at_once(server: Server, daemon: Daemon) -> None:
    newest = next(client for client in reversed(load()) if client.flavour == "py")
    install(newest)
    said = run_many(newest, server)
    assert said == {"clients": 20, "faults": []}
    left = [(one["id"], one["metadata"], daemon.events(one["id"])) for one in _live(daemon)]
    assert left == [], "\n".join(map(str, left))


def _live(daemon: Daemon) -> list[dict[str, Any]]:
    return list(daemon.api("GET", "/v1/sandboxes").json()["items"])
