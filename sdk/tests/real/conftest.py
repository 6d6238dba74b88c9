"""A real daemon with the real agent, without isolation: setting `node=fake` runs agents as ordinary processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sdk.tests.real.cutter import Cutter

from atoll import Config, Sandbox

# Where `make agent` puts it; a checkout that found it in the cache has built none of its own.
AGENT = Path(os.environ.get("ATOLL_AGENT_BINARY", "/var/cache/atoll/bin/atoll-agent"))
START_LIMIT_S = 30.0


@pytest.fixture(scope="session")
def real_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("daemon")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {
        **os.environ,
        "ATOLL_NODE": "fake",
        "ATOLL_INSTANCE": "sdktests",
        "ATOLL_BIND_PORT": str(port),
        "ATOLL_STATE_DIR": str(directory / "state"),
        "ATOLL_RUN_DIR": str(directory / "run"),
        "ATOLL_AGENT_BINARY": str(AGENT),
        "ATOLL_LOG_LEVEL": "warning",
    }
    daemon = subprocess.Popen([sys.executable, "-m", "atolld", "serve"], env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", daemon)
        os.environ["ATOLL_TEST_KEY"] = (directory / "state" / "admin.key").read_text().strip()
        yield port
    finally:
        daemon.terminate()
        daemon.wait(30)


def _wait_for(url: str, daemon: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_LIMIT_S
    while True:
        assert daemon.poll() is None, "the daemon ended at its start"
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < give_up_at, "the daemon did not answer"
            time.sleep(0.05)


@pytest.fixture
def cutter(real_port: int) -> Iterator[Cutter]:
    forwarder = Cutter(real_port)
    yield forwarder
    forwarder.close()


@pytest.fixture
def real_config(cutter: Cutter) -> Config:
    return Config(api_url=cutter.url, api_key=os.environ["ATOLL_TEST_KEY"])


@pytest.fixture
def sandbox(real_config: Config) -> Iterator[Sandbox]:
    with Sandbox.create(runtime="fake", config=real_config) as made:
        yield made
