"""What a new user types first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from atoll import Sandbox
from e2e.conftest import Daemon


def atoll(daemon: Daemon, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "atoll", *words],
        env=daemon.client_environment,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("runtime", ["gvisor", "container"])
def test_run_prints_the_output_and_exits_with_the_code(daemon: Daemon, runtime: str) -> None:
    before = daemon.settle().counts()
    done = atoll(daemon, "run", "--runtime", runtime, "--", "python3", "-c", "print(6*7)")
    assert (done.stdout, done.returncode) == (b"42\n", 0), done.stderr
    done = atoll(daemon, "run", "--runtime", runtime, "--", "sh", "-c", "echo no >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"no\n", 7)
    assert daemon.settle().counts() == before


def test_run_passes_stdin_through(daemon: Daemon) -> None:
    done = atoll(daemon, "run", "--", "wc", "-c", stdin=b"x" * 300_000)
    assert (done.stdout.strip(), done.returncode) == (b"300000", 0), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--", "no-such-program"), "no-such-program"),
        (("run", "--template", "nope", "--", "true"), "nope"),
        (("run", "--runtime", "nope", "--", "true"), "nope"),
        (("run", "--memory", "-5", "--", "true"), "-5"),
        (("run", "--cpu", "9999999999", "--", "true"), "cpu"),
        (("sandbox", "info", "i0000000000000000000"), "i0000000000000000000"),
        (("sandbox", "kill", "../../etc"), "etc"),
    ],
)
def test_what_is_missing_is_named(daemon: Daemon, words: tuple[str, ...], told: str) -> None:
    before = daemon.settle().counts()
    done = atoll(daemon, *words)
    assert done.returncode != 0
    assert told in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert daemon.settle().counts() == before


def test_the_readme_snippet(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in daemon.client_environment.items():
        if name.startswith("ATOLL_"):
            monkeypatch.setenv(name, value)
    with Sandbox.create(
        template="base", runtime="gvisor", cpu=1, memory_mib=512, timeout_s=300, envs={"A": "1"}, metadata={"run": "7"}
    ) as sb:
        assert sb.run("python3 -c 'print(6*7)'").stdout == "42\n"
        assert sb.run("echo $A").stdout == "1\n"
        printed = ""
        for event in sb.start("for i in 1 2 3; do echo $i; sleep 0.1; done"):
            printed += getattr(event, "text", "")
        assert printed == "1\n2\n3\n"
        sb.files.write("/home/user/a.txt", b"hello")
        assert sb.files.read("/home/user/a.txt") == "hello"
        assert sb.run("stat -c %U /home/user/a.txt").stdout == "user\n"


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_login_shell_starts_no_other_program(gvisor: Sandbox, user: str) -> None:
    # Numbers of processes are given out in order.
    login = ["bash", "-l", "-c", "echo $$ $PATH"]
    first, second = [gvisor.run(login, user=user, check=True).stdout.split() for _ in range(2)]
    assert int(second[0]) == int(first[0]) + 1
    assert ("/usr/sbin" in second[1].split(":")) is (user == "root")
    assert gvisor.run(["sh", "-l", "-c", "echo $PATH"], user=user, check=True).stdout == f"{second[1]}\n"


def test_every_command_speaks_json(daemon: Daemon) -> None:
    made = json.loads(atoll(daemon, "sandbox", "create", "--json").stdout)
    try:
        listed = json.loads(atoll(daemon, "sandbox", "list", "--json").stdout)
        assert made["id"] in json.dumps(listed)
        info = json.loads(atoll(daemon, "sandbox", "info", made["id"], "--json").stdout)
        assert info["state"] == "running"
    finally:
        assert atoll(daemon, "sandbox", "kill", made["id"]).returncode == 0
    checks = json.loads(atoll(daemon, "doctor", "--json").stdout)
    assert "gvisor" in json.dumps(checks)
