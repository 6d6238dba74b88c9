"""`sudo` in a sandbox does what scripts expect of it, under every runtime."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from atoll import Sandbox
from e2e.conftest import Daemon

PATIENCE_S = 15
MANY = 100
ABREAST = 20

# Speaks to PID 1 as sudo does, claiming to be root, from an unprivileged user and from root of its own user namespace.
FORGE = r"""
import array, os, socket, struct
body = b"c0000\x00\x00\x00/\x00" + b"0\x00" + b"0\x00" + b"1\x00id\x00" + b"0\x00"
for claim in (None, (os.getpid(), 0, 0), (1, 0, 0)):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(b"\x00atoll/sudo")
    peer.settimeout(5)
    peer.recv(1)
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    if claim:
        extra.append((socket.SOL_SOCKET, 2, struct.pack("iII", *claim)))
    try:
        try:
            peer.sendmsg([struct.pack("<I", len(body))], extra)
            peer.sendall(body)
        except BrokenPipeError:
            pass  # Who may not is told so before the request is read, and that answer waits.
        while said := peer.recv(1000):
            print(said, flush=True)
    except OSError as error:
        print(error)
"""


@pytest.fixture(scope="module", params=["gvisor", "container"])
def sandbox(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox.create(runtime=request.param, config=daemon.config) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("sudo id -u", 0, "0"),
        ("sudo -n true", 0, ""),
        ("sudo -v", 0, ""),
        ("sudo -k", 0, ""),
        ("sudo -u user id -u", 0, "1000"),
        ("sudo -u '#1000' id -un", 0, "user"),
        ("sudo --user=nobody id -un", 0, "nobody"),
        ("sudo -g sudo id -gn", 0, "sudo"),
        ("echo x | sudo tee /root/made", 0, "x"),
        ("sudo cat < /etc/hostname > /dev/null", 0, ""),
        ("sudo sh -c 'exit 7'", 7, ""),
        ("sudo sh -c 'echo out; echo err >&2' 2>/dev/null", 0, "out"),
        ("sudo -i pwd", 0, "/root"),
        ("sudo -i printf '%s,' 'a b' c", 0, "a b,c,"),
        ("sudo -s echo 'a  b;'", 0, "a  b;"),
        ("cd /tmp && sudo pwd", 0, "/tmp"),
        ("A=1 sudo -E printenv A", 0, "1"),
        ("A=1 sudo printenv A", 1, ""),
        ("A=1 B=2 sudo --preserve-env=A printenv A B", 1, "1"),
        ("sudo A=1 printenv A", 0, "1"),
        ("sudo printenv HOME USER SUDO_USER SUDO_UID", 0, "/root\nroot\nuser\n1000"),
        ("PATH=/tmp:$PATH sudo printenv PATH", 0, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("sudo sudo id -u", 0, "0"),
        ("sudo -- id -u", 0, "0"),
        ("sudo no-such-program 2>&1", 1, "sudo: no-such-program: command not found"),
        ("sudo /no/such 2>&1", 1, "sudo: /no/such: command not found"),
        ("sudo apt-get --version | grep -c ^apt", 0, "1"),
        ("sudo sh -c 'kill -9 $$'; echo $?", 0, "137"),
        ("sudo sh -c 'kill -TERM $$'; echo $?", 0, "143"),
        ("sudo head -c 5000000 /dev/zero | wc -c", 0, "5000000"),
        ("head -c 300000 /dev/zero | tr '\\0' x | sudo wc -c", 0, "300000"),
        (
            "sudo printf '#!/bin/sh\\necho hi\\n' | sudo tee /root/s >/dev/null; sudo chmod +x /root/s; sudo /root/s",
            0,
            "hi",
        ),
    ],
)
def test_as_everywhere(sandbox: Sandbox, command: str, code: int, output: str) -> None:
    done = sandbox.run(command, timeout_s=PATIENCE_S)
    assert (done.exit_code, done.stdout.strip()) == (code, output), done


def test_unknown_options_are_refused(sandbox: Sandbox) -> None:
    for option in ("-X", "--nonsense"):
        done = sandbox.run(f"sudo {option} id")
        assert done.exit_code == 1 and "usage" in done.stderr and done.stdout == ""


def test_who_may_not_is_told_so(sandbox: Sandbox) -> None:
    assert sandbox.run("id eve || sudo useradd -m eve").exit_code == 0
    sandbox.files.write("/tmp/forge.py", FORGE)
    done = sandbox.run("sudo -n id", user="eve")
    assert done.exit_code == 1 and done.stdout == ""
    if "gVisor" in sandbox.run("dmesg 2>&1").stdout:
        assert done.stderr.strip() == "eve is not in the sudoers file."
        for prefix in ("", "unshare -Ur "):
            said = sandbox.run(f"{prefix}python3 /tmp/forge.py", user="eve").stdout
            assert "uid=" not in said, said
            assert "eve is not in the sudoers file." in said
        # The same as somebody who may: the test's own tool works.
        assert "uid=0(root)" in sandbox.run("python3 /tmp/forge.py").stdout
        assert sandbox.run("unshare -Ur sudo id -u", user="eve").exit_code == 1
    assert sandbox.run("sudo gpasswd -a eve sudo").exit_code == 0
    sandbox.run("echo 'eve ALL=(ALL) NOPASSWD:ALL' | sudo tee /etc/sudoers.d/eve && sudo chmod 440 /etc/sudoers.d/eve")
    assert sandbox.run("sudo -n id -u", user="eve").stdout.strip() == "0"
    sandbox.run("sudo rm /etc/sudoers.d/eve && sudo gpasswd -d eve sudo")
    assert sandbox.run("sudo -n id -u", user="eve").exit_code == 1


def test_many_leave_nothing_behind(sandbox: Sandbox) -> None:
    count = "sudo sh -c 'ls /proc/1/fd | wc -l; ls -d /proc/[0-9]* | wc -l; cat /proc/[0-9]*/stat | grep -c \") Z\"'"
    sandbox.run("sudo true")
    before = sandbox.run(count).stdout
    script = f"for i in $(seq {MANY}); do sudo true || echo bad; done"
    assert sandbox.run(script, timeout_s=120).stdout == ""
    script = f"for i in $(seq {ABREAST}); do sudo sh -c 'sleep 0.2; echo ok' & done; wait"
    assert sandbox.run(script, timeout_s=60).stdout == "ok\n" * ABREAST
    # Ended processes are reaped a moment later.
    deadline = time.monotonic() + PATIENCE_S
    while (now := sandbox.run(count).stdout) != before:
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.2)


def test_signals_reach_the_command(sandbox: Sandbox) -> None:
    for signal in ("TERM", "INT", "HUP", "USR1"):
        process = sandbox.start(
            f"exec sudo sh -c 'trap \"echo got; exit 5\" {signal}; echo up; while :; do sleep 0.05; done'"
        )
        seen = b""
        for event in process:
            seen += getattr(event, "data", b"")
            if getattr(event, "data", b"") and seen == b"up\n":
                process.send_signal(signal)
        # The shell tells of the `sleep` that met the signal too.
        assert (process.wait().exit_code, seen[:3], b"got\n" in seen) == (5, b"up\n", True), (signal, seen)


def test_a_killed_sudo_takes_its_command_along(sandbox: Sandbox) -> None:
    process = sandbox.start("sudo sh -c 'trap \"\" HUP; echo up; sleep 4321'")
    for event in process:
        if b"up" in getattr(event, "data", b""):
            process.kill()
    deadline = time.monotonic() + PATIENCE_S
    while sandbox.run("pgrep -f '[s]leep 4321'").exit_code == 0:
        assert time.monotonic() < deadline, sandbox.run("ps ax").stdout
        time.sleep(0.2)


class Screen:
    """A terminal with a shell, and everything it has shown."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.pty = sandbox.pty.create(cols=90, rows=30, timeout_s=120)
        self.shown = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.type("PS1='> '\n", r"\n.*> ")

    def _read(self) -> None:
        for event in self.pty:
            self.shown += getattr(event, "data", b"").decode(errors="replace")

    def type(self, text: str, until: str) -> None:
        """Type `text` and wait for the pattern `until` in what is shown from now on."""
        place = len(self.shown)
        self.pty.send(text)
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(until, self.shown[place:]):
            assert time.monotonic() < deadline, (text, until, self.shown[place:])
            time.sleep(0.02)


@contextmanager
def screen(sandbox: Sandbox) -> Iterator[Screen]:
    screen = Screen(sandbox)
    try:
        yield screen
    finally:
        screen.pty.kill()
        # Before the sandbox goes: a reader cut off by that would raise where nobody sees it.
        screen.reader.join(PATIENCE_S)


def test_in_a_terminal(sandbox: Sandbox) -> None:
    with screen(sandbox) as there:
        there.type("sudo stty size; sudo sh -c 'exit 9'; echo code=$?\n", r"30 90\r\n.*code=9")
        there.type("sudo sh -c 'echo u\"\"p; sleep 100'; echo code=$?\n", r"up\r\n")
        there.type("\x03", r"code=130|> ")
        there.type("sudo sh -c 'echo u\"\"p; sleep 100'\n", r"up\r\n")
        # Whether it stops, as with real sudo, or cannot: the shell comes back.
        there.type("\x1a", r".")
        there.type("\x03", r"> ")
        there.type("echo back $(stty | grep -c -- '-icanon')\n", r"back 0")
        there.type("sudo sh -c 'echo na\"\"me; read a; echo got=$a'\n", r"name\r\n")
        there.type("hello\n", r"got=hello")
        there.type("echo data | sudo tee /root/f | cat\n", r"\rdata\r\n")


def test_a_root_shell_has_job_control(sandbox: Sandbox) -> None:
    with screen(sandbox) as there:
        there.type("sudo -i\n", r"# $")
        there.type("id -un; pwd\n", r"root\r\n/root")
        there.type("sleep 50; echo\n", r"\n")
        time.sleep(0.5)
        there.type("\x1a", r"Stopped")
        there.type("jobs\n", r"Stopped +sleep 50")
        there.type("kill %1; wait; clear\n", r"# ")
        there.pty.resize(120, 40)
        there.type("\n", r"# ")
        there.type("stty size\n", r"40 120")
        there.type("exit\n", r"> $")
