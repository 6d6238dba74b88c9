"""The command line as a person uses it, on a daemon of its own without isolation."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atolld.daemon import background
from atolld.daemon.cli import main
from atolld.daemon.commands import specification
from atolld.daemon.settings import Settings


@dataclass
class Said:
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


Atolld = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def atolld(
    settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Atolld]:
    """Runs a command in this process; the daemon that `start` starts is one of its own."""
    for name in [name for name in os.environ if name.startswith(("ATOLL_", "SUDO_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": home,
        "ATOLL_NODE": "fake",
        "ATOLL_INSTANCE": "t",
        "ATOLL_STATE_DIR": settings.state,
        "ATOLL_RUN_DIR": settings.run,
        "ATOLL_BIND_PORT": settings.bind_port,
        "ATOLL_AGENT_BINARY": settings.agent,
    }.items():
        monkeypatch.setenv(name, str(value))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, **changes: str) -> Said:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as for_this:
            for name, value in changes.items():
                for_this.setenv(name, value)
            try:
                status = main(arguments)
            except SystemExit as error:
                status = int(error.code or 0)
        told = capsys.readouterr()
        return Said(status, told.out, told.err)

    yield run
    run("stop")
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_day_of_a_daemon(atolld: Atolld, settings: Settings, home: Path) -> None:
    assert "does not run" in atolld("status").stdout
    first = atolld("start")
    assert first.returncode == 0 and "started in" in first.stdout and settings.url in first.stdout, first.stderr
    again = atolld("start")
    assert again.returncode == 0 and "runs already" in again.stdout

    config = json.loads((home / ".config" / "atoll" / "config.json").read_text())
    assert config == {"api_url": settings.url, "api_key": (settings.state / "admin.key").read_text().strip()}
    status = json.loads(atolld("status", "--json").stdout)
    assert status["running"] and status["health"]["status"] == "ok" and status["url"] == settings.url

    secret = atolld("key", "create", "second").stdout.strip()
    assert secret.startswith("e2b_")
    keys = json.loads(atolld("key", "list", "--json").stdout)
    assert [key["name"] for key in keys] == ["admin", "second"]
    assert atolld("key", "revoke", keys[1]["id"]).returncode == 0
    assert "revoked" in atolld("key", "list").stdout
    missing = atolld("key", "revoke", "nothing")
    assert missing.returncode == 1 and missing.stderr.startswith("atolld: ")

    assert "atolld stopped" in atolld("stop").stdout
    assert background.running(settings) is None
    assert "does not run" in atolld("stop").stdout
    assert "removed" in atolld("stop", "--all").stdout
    lines = [json.loads(line) for line in background.log_file(settings).read_text().splitlines()]
    assert any("listening" in line["message"] for line in lines)


def test_a_killed_daemon_is_seen_to_be_gone_and_can_be_started_again(atolld: Atolld, settings: Settings) -> None:
    atolld("start")
    process = background.running(settings)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    while background.running(settings) is not None:
        pass
    assert atolld("status").returncode == 1
    assert atolld("start").returncode == 0


def test_a_start_that_fails_says_why(atolld: Atolld, tmp_path: Path) -> None:
    failed = atolld("start", ATOLL_AGENT_BINARY=str(tmp_path / "none"))
    assert failed.returncode == 1
    assert "there is no guest agent" in failed.stderr and "make agent" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_doctor_says_what_to_do(atolld: Atolld, tmp_path: Path) -> None:
    good = atolld("doctor", "--json")
    assert good.returncode == 0 and json.loads(good.stdout)["ok"] is True, good.stderr
    bad = atolld("doctor", ATOLL_AGENT_BINARY=str(tmp_path / "none"))
    assert bad.returncode == 1 and "FAIL  agent" in bad.stdout and "-> build it" in bad.stdout


def test_wrong_use(atolld: Atolld) -> None:
    assert atolld().returncode == 2
    assert atolld("fly").returncode == 2
    wrong = atolld("status", ATOLL_BIND_PORT="99999999")
    assert wrong.returncode == 1 and "bind_port is '99999999'" in wrong.stderr


def test_the_specification_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == specification() + "\n"


def test_the_authority_to_trust(atolld: Atolld, settings: Settings) -> None:
    told = atolld("ca", "--domain", "sandbox.test")
    path = settings.state / "tls" / "sandbox.test" / "ca.pem"
    assert told.returncode == 0 and told.stdout.startswith(f"{path}\n") and path.exists()
    assert f"SSL_CERT_FILE={path}" in told.stdout and f"NODE_EXTRA_CA_CERTS={path}" in told.stdout
    refused = atolld("ca")
    assert refused.returncode == 1 and "no domain is set" in refused.stderr


def test_the_key_that_signs_archives(atolld: Atolld, settings: Settings) -> None:
    said = atolld("archive-key")
    assert said.stdout.startswith("atoll-archive-")
    assert atolld("archive-key").stdout == said.stdout
    assert (settings.state / "archive.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["status", "stop"])
def test_what_asks_the_daemon_only_reads_in_little(settings: Settings, command: str) -> None:
    heavy = ("sqlalchemy", "fastapi", "pyroute2")
    program = (
        f"import sys\nfrom atolld.daemon.cli import main\nmain([{command!r}])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    environment = {**os.environ, "ATOLL_INSTANCE": "t", "ATOLL_STATE_DIR": str(settings.state)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
