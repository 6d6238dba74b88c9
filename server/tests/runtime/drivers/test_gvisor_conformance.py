"""The gVisor driver keeps every promise on this machine, with real guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.runtime.conformance import CHECKS, run_check
from atolld.runtime.conformance.factories import gvisor
from atolld.runtime.conformance.linux_lab import LinuxLab, have_root, newest_layer

GAPS = {
    "guest_sees_its_cpus": "runsc shows a guest at least two CPUs",
    "set_user_id_works": "gVisor before 2025 ignores set-user-id bits; sudo is the agent's there (e2e/test_sudo.py)",
}


@pytest.mark.real
@pytest.mark.parametrize("check", CHECKS)
async def test_conformance(check: str, tmp_path: Path) -> None:
    base = newest_layer()
    if not have_root() or base is None:
        pytest.skip("needs root, mke2fs and the base template")
    async with LinuxLab(tmp_path, gvisor, (base,)) as lab:
        await run_check(check, lab, GAPS)
