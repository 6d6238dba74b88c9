"""The container driver keeps every promise on this machine, with real guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.runtime.conformance import CHECKS, run_check
from atolld.runtime.conformance.factories import container
from atolld.runtime.conformance.linux_lab import LinuxLab, have_root, newest_layer

SHARED_KERNEL = "the guest reads the host kernel's own figures"
GAPS = {"guest_sees_its_cpus": SHARED_KERNEL, "guest_sees_its_memory": SHARED_KERNEL}


@pytest.mark.real
@pytest.mark.parametrize("check", CHECKS)
async def test_conformance(check: str, tmp_path: Path) -> None:
    base = newest_layer()
    if not have_root() or base is None:
        pytest.skip("needs root, mke2fs and the base template")
    async with LinuxLab(tmp_path, container, (base,)) as lab:
        await run_check(check, lab, GAPS)
