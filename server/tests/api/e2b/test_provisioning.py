from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from atolld.api.e2b.provisioning import ensure_user, finalize, prepare
from atolld.core.build import Run, Where

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
HERE = Where(3, 0, "USER app")


@pytest.mark.parametrize("run", [prepare(), finalize(False), ensure_user(HERE, "app", True, False)])
def test_every_shell_can_read_them(run: Run) -> None:
    assert run.argv[:2] == ("/bin/sh", "-c") and run.user == "root"
    for shell in SHELLS:
        command = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
        subprocess.run(command, input=run.argv[2], text=True, check=True, timeout=10)


def test_where_they_stand() -> None:
    assert (prepare().where.step, finalize(False).where.step) == ("base", "finalize")
    made = ensure_user(HERE, "app", False, True)
    assert (made.where, made.force, made.argv[3:]) == (HERE, True, ("sh", "app", ""))
    assert finalize(True).force and not prepare().force


PROFILE = """\
if [ "$(id -u)" -eq 0 ]; then
  WHO=root
else
  WHO=user
fi
"""
ROOTS = "WHOSE=root\nmesg n 2> /dev/null || true\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_login_starts_no_program_where_bash_knows_the_answer(tmp_path: Path, shell: str) -> None:
    profile, roots, started = tmp_path / "profile", tmp_path / "roots", tmp_path / "started"
    profile.write_text(PROFILE)
    roots.write_text(ROOTS)
    lines = [line for line in prepare().argv[2].splitlines() if "profile" in line]
    script = "\n".join(lines).replace("/etc/profile", str(profile)).replace("/root/.profile", str(roots))
    before = [shell, "sh"] if shell == "busybox" else [shell]
    for _ in range(2):
        subprocess.run([*before, "-euc", script], check=True, timeout=10)
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in ("id", "mesg"):
        (bin / name).write_text(f"#!/bin/sh\necho {name} >>{started}\necho 1000\n")
        (bin / name).chmod(0o755)
    asking = f". {profile}; . {roots}; echo $WHO $WHOSE"
    for reader, expected in (("bash", ""), ("dash", "id\n")):
        started.write_text("")
        environment = {"PATH": f"{bin}:/usr/bin:/bin"}
        told = subprocess.run(
            [reader, "-c", asking],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
        assert re.fullmatch(r"(root|user) root\n", told)
        assert started.read_text() == expected


def test_other_profiles_are_left_alone(tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.write_text('if [ "$(/usr/bin/id -u)" = 0 ]; then A=1; fi\n')
    lines = [line for line in prepare().argv[2].splitlines() if "profile" in line]
    script = "\n".join(lines).replace("/etc/profile", str(profile)).replace("/root/.profile", str(tmp_path / "none"))
    before = profile.read_text(), profile.stat().st_mtime_ns
    subprocess.run(["sh", "-euc", script], check=True, timeout=10)
    assert (profile.read_text(), profile.stat().st_mtime_ns) == before
