"""Fixtures of the SDK's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import Config


@pytest.fixture(autouse=True)
def no_user_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ATOLL_API_URL", raising=False)
    monkeypatch.delenv("ATOLL_API_KEY", raising=False)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    fake = FakeDaemon()
    yield fake
    fake.close()


@pytest.fixture
def config(daemon: FakeDaemon) -> Config:
    return Config(api_url=daemon.url, api_key="key", resume_timeout_s=5.0)


@pytest.fixture(autouse=True)
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase costs a second to try, by design; tests need not pay it."""
    monkeypatch.setattr("atoll._age.WORK_FACTOR", 4)
