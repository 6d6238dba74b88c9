"""E2B's own clients, unmodified, against the daemon: every public method. All releases: `make compat`."""

from __future__ import annotations

import pytest

from e2e.conftest import Daemon
from e2e.e2b import known
from e2e.e2b.clients import Client, load
from e2e.e2b.other_project import key_of_another_project
from e2e.e2b.runs import Server, columns, run

DEFAULT = [client for client in load() if client.default]


@pytest.fixture(scope="module")
def server(daemon: Daemon) -> Server:
    return Server(daemon.url, daemon.key, key_of_another_project(daemon.state_dir))


@pytest.mark.parametrize(("client", "flavour"), columns(DEFAULT), ids=lambda part: getattr(part, "name", part))
def test_every_public_method(server: Server, client: Client, flavour: str) -> None:
    complaints = known.complaints(run(client, flavour, server), known.load())
    assert not complaints, "\n".join(complaints)
