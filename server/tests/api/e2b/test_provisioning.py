from __future__ import annotations

import shutil
import subprocess

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
