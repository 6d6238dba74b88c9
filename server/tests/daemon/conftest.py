from __future__ import annotations

import socket
from pathlib import Path

import pytest

from atolld.daemon.settings import Settings, load

FAKE_AGENT = Path(__file__).parent / "fake_agent.py"


@pytest.fixture
def settings(tmp_path: Path, free_port: int) -> Settings:
    """A daemon without isolation, whose agent is a small program."""
    return load(
        {},
        {
            "node": "fake",
            "instance": "t",
            "state_dir": tmp_path / "state",
            "run_dir": tmp_path / "run",
            "bind_port": free_port,
            "agent_binary": FAKE_AGENT,
            "stop_grace_s": 0.2,
        },
    )


@pytest.fixture
def free_port() -> int:
    """A port of loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
