"""A real daemon with the real runtimes, on its own instance name, state directory and port."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from atoll import Config, Sandbox
from e2e import census

START_TIMEOUT_S = 90
CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Daemon:
    """One `atolld serve` of this test run; `crash` names a crash point for the next start."""

    state_dir: Path
    instance: str = field(default_factory=lambda: "t" + secrets.token_hex(3))
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ATOLL_INSTANCE": self.instance,
            "ATOLL_STATE_DIR": str(self.state_dir),
            "ATOLL_RUN_DIR": str(self.state_dir / "run"),
            "ATOLL_BIND_PORT": str(self.port),
            "ATOLL_CONFIG": str(self.state_dir / "client.json"),
            # So that every process and group of the instance is a sandbox's.
            "ATOLL_READY_CONTAINERS": "0",
            **self.settings,
        }

    @property
    def config(self) -> Config:
        return Config(api_url=self.url, api_key=self.key)

    @property
    def client_environment(self) -> dict[str, str]:
        return {**os.environ, "ATOLL_API_URL": self.url, "ATOLL_API_KEY": self.key}

    def start(self, crash: str | None = None, wait: bool = True) -> None:
        environment = self.environment | ({"ATOLL_CRASH_POINT": crash} if crash else {})
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with open(self.state_dir / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "atolld", "serve"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_healthy()

    def wait_healthy(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    self.key = (self.state_dir / "admin.key").read_text().strip()
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the daemon was not healthy after {START_TIMEOUT_S} s:\n{self.log_tail()}")

    def settle(self, timeout_s: float = 30) -> census.Census:
        """Wait until the pools are full: two looks in a row see the same things. Returns what is there."""
        deadline = time.monotonic() + timeout_s
        last = self.census()
        while time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.census()
            if now == last:
                return now
            last = now
        raise AssertionError(f"the daemon's pools did not come to rest within {timeout_s} s")

    def kill_hard(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def wait_end(self, timeout_s: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """As `make stop`: the daemon and every sandbox end."""
        subprocess.run(
            [sys.executable, "-m", "atolld", "stop", "--all"],
            env=self.environment,
            check=True,
            timeout=120,
            capture_output=True,
        )
        if self.process is not None:
            self.process.wait(30)

    def log_tail(self) -> str:
        return (self.state_dir / "daemon.log").read_text(errors="replace")[-4000:]

    def errors(self) -> str:
        """What its log says of failures of its own, the last 4,000 characters."""
        lines = (self.state_dir / "daemon.log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if '"level": "error"' in line)[-4000:]

    def census(self) -> census.Census:
        return census.take(self.instance, self.state_dir)

    def rss_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def open_files(self) -> int:
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def api(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        json: object = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        sent = {"authorization": f"Bearer {self.key}".encode()}
        sent |= {name: value.encode() if isinstance(value, str) else value for name, value in (headers or {}).items()}
        body = {"content": content} if content is not None else {} if json is None else {"json": json}
        raw = [(name.encode(), value) for name, value in sent.items()]
        return httpx.request(method, f"{self.url}{path}", headers=raw, timeout=60, **body)

    def events(self, sandbox_id: str) -> list[dict[str, object]]:
        answer = self.api("GET", f"/v1/sandboxes/{sandbox_id}/events")
        answer.raise_for_status()
        return list(answer.json()["items"])


def make_daemon(base: Path, **settings: str) -> Iterator[Daemon]:
    daemon = Daemon(base / "state", settings=settings)
    try:
        daemon.start()
        daemon.settle()
        yield daemon
    finally:
        if daemon.process is not None:
            if daemon.process.poll() is not None:
                daemon.start()
            daemon.stop()
            assert daemon.process.poll() is not None
        shutil.rmtree(base / "state", ignore_errors=True)
        # The cache outlives the daemon, and what its templates kept there is nobody's any more.
        cache = Path(settings.get("ATOLL_CACHE_DIR", CACHE))
        for pin in cache.glob(f"layers/*/pins/{daemon.instance}.*"):
            pin.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon shared by the tests that leave it running."""
    yield from make_daemon(tmp_path_factory.mktemp("atoll"))


@pytest.fixture
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of the test's own, for killing and restarting."""
    yield from make_daemon(tmp_path_factory.mktemp("atoll-own"))


@pytest.fixture(scope="module")
def _daemon_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    yield from make_daemon(tmp_path_factory.mktemp("atoll-module"))


@pytest.fixture
def stopped_daemon(_daemon_of_the_module: Daemon) -> Daemon:
    """A daemon for tests that start it themselves, to crash: the same for all of a module, which saves two starts each.

    Nothing of it is on the machine; a test may leave it stopped or running, without sandboxes.
    """
    daemon = _daemon_of_the_module
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.stop()
    return daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.real)


@pytest.fixture
def client(daemon: Daemon) -> Config:
    """How clients reach the shared daemon."""
    return daemon.config


@pytest.fixture
def gvisor(client: Config) -> Iterator[Sandbox]:
    """One gVisor sandbox of the shared daemon."""
    with Sandbox.create(runtime="gvisor", config=client) as sandbox:
        yield sandbox
