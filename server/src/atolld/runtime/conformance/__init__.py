"""The one behaviour suite that every driver must pass.

A driver's test is a factory and its known gaps, each with its reason; a gap that closes fails the test until its entry
is removed:

    @pytest.mark.parametrize("check", CHECKS)
    async def test_conformance(check: str, tmp_path: Path) -> None:
        async with LinuxLab(tmp_path, factories.gvisor, layers=(base,)) as lab:
            await run_check(check, lab, known_gaps={})
"""

from atolld.runtime.conformance.lab import Ground, Lab
from atolld.runtime.conformance.suite import CHECKS, run_check

__all__ = ["CHECKS", "Ground", "Lab", "run_check"]
