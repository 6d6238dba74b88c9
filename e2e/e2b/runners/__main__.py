"""`python -m e2e.e2b.runners sync|async`: try every public method of the installed Python client against the server
that E2B_API_URL and E2B_SANDBOX_URL name, and print a JSON line for the client and for each check."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import cast

from e2e.e2b.runners import (  # noqa: F401 - importing them registers their checks
    asynchronous,
    commands,
    errors,
    examples,
    files,
    gits,
    later,
    lifetimes,
    networks,
    pauses,
    ptys,
    sandboxes,
    snapshots,
    templates,
    watches,
)
from e2e.e2b.runners.harness import Flavour, Run, attempt, chosen, drive, go, tell
from e2e.e2b.runners.surface import methods


async def main(flavour: Flavour) -> None:
    run = Run(flavour)
    public = methods(flavour)
    tell({"client": importlib.metadata.version("e2b"), "flavour": flavour, "public": sorted(public)})
    try:
        run.sb = await run.create(timeout=600, metadata={"suite": "compat"}, envs={"GREETING": "sandbox"})
        for one in chosen(flavour):
            tell(await attempt(one, run, public))
    finally:
        for sandbox in run.made:
            await go(sandbox.kill())


if __name__ == "__main__":
    if sys.argv[1:] not in (["sync"], ["async"]):
        sys.exit("usage: python -m e2e.e2b.runners sync|async")
    wanted = cast(Flavour, sys.argv[1])
    drive(main(wanted), wanted)
