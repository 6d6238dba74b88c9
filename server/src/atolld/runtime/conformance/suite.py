"""The checks by name, and how one is run with its driver's known gaps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from atolld.runtime.conformance import checkpoint, freezing, lifecycle, limits, recovery, shells
from atolld.runtime.conformance.lab import Lab

Check = Callable[[Lab], Awaitable[None]]


def _collect() -> dict[str, Check]:
    found: dict[str, Check] = {}
    for module in (lifecycle, recovery, limits, checkpoint, freezing, shells):
        for name, value in vars(module).items():
            if name.startswith("check_") and callable(value):
                found[name.removeprefix("check_")] = value
    return found


CHECKS: Mapping[str, Check] = _collect()


async def run_check(name: str, lab: Lab, known_gaps: Mapping[str, str]) -> None:
    """Run the check `name`.

    `known_gaps`: check -> the reason it cannot hold for this driver. Such a check must fail; raises AssertionError when
    it passes, so that no gap outlives its cause. Raises KeyError for a gap that names no check.
    """
    for gap in known_gaps:
        CHECKS[gap]
    if name not in known_gaps:
        await CHECKS[name](lab)
        return
    try:
        await CHECKS[name](lab)
    except Exception:
        return
    raise AssertionError(f"the known gap {name!r} ({known_gaps[name]}) is closed: remove its entry")
