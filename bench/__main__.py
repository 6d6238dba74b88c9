"""`python -m bench`: measure, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from e2e.conftest import Daemon

from atoll import Sandbox
from atolld.host.cores import DEVICE
from atolld.images.templates import TemplateStore
from bench import gateway, measure, pools, space, state
from bench.bare import BareRuntime
from bench.report import Results, machine, to_json, to_markdown
from bench.setting import QUICK, READY_CONTAINERS, Counts, Setting, say

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*GROUPS], help="run this group (may be given again)")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that all of it works")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument("--write", type=Path, help="where the report goes (a whole run: docs/benchmarks.md)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, as the runtimes do")
    # However it is ended, what it made is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = Results()
    try:
        about = run(results, options.only or list(GROUPS), QUICK if options.quick else Counts())
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; everything it made is removed")
    report = to_markdown(results, about)
    path = options.write
    if path is None and not options.only and not options.quick:
        path = ROOT / "docs" / "benchmarks.md"
    if path is not None:
        path.write_text(report)
    print(json.dumps(to_json(results, about), indent=2) if options.json else report)
    sys.exit(1 if results.failures else 0)


def run(results: Results, groups: list[str], counts: Counts) -> dict[str, str]:
    """Run `groups` with a daemon of their own; a group that fails is noted and the others go on."""
    with ExitStack() as made:
        made.callback(lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        folder = Path(
            made.enter_context(tempfile.TemporaryDirectory(prefix="atoll-bench-", ignore_cleanup_errors=True))
        )
        daemon = Daemon(folder / "state", settings={"ATOLL_READY_CONTAINERS": str(READY_CONTAINERS)})
        made.callback(daemon.stop)
        daemon.start()
        runtimes = {one["name"]: one for one in daemon.api("GET", "/v1/runtimes").json()["items"]}
        about = machine(runtimes["gvisor"]["version"])
        details = runtimes["gvisor"]["details"]
        layer = TemplateStore(Path("/var/cache/atoll")).get("base").layers[-1]
        bare = BareRuntime(Path(details["binary"]), layer, details["platform"])
        made.callback(bare.close)
        # A second interrupt must not cut the removal short.
        made.callback(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        setting = Setting(daemon, bare, folder, counts, results)
        for name in groups:
            say(name)
            begun = time.monotonic()
            try:
                GROUPS[name](setting)
            except Exception as error:
                results.failures[name] = f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
                say(f"{name} failed: {results.failures[name]}")
            print(f"bench: {name} took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return about


def create(setting: Setting) -> None:
    client, bare, count = setting.client, setting.bare, setting.counts.short
    usual, other = "create to first output", "create to first output, a size that no container waits for"
    with setting.phases(create=usual):
        setting.results.add(measure.cold_create(usual, client, bare, count, setting.wait_ready))
    with setting.phases(create=other):
        setting.results.add(measure.cold_create(other, client, bare, count, setting.wait_ready, memory_mib=768))
    if os.access(DEVICE, os.W_OK):
        setting.results.add(*measure.bare_on_awake_cores(bare, count))


def commands(setting: Setting) -> None:
    with _sandbox(setting) as sandbox:
        setting.results.add(*measure.running_command(sandbox, setting.bare, setting.counts.short))


def transfer(setting: Setting) -> None:
    with _sandbox(setting) as sandbox:
        setting.results.add(*measure.transfer(sandbox, setting.folder, setting.folder / "state"))


def through_gateway(setting: Setting) -> None:
    with _sandbox(setting) as sandbox:
        setting.results.add(*gateway.through_the_gateway(setting.client, sandbox, 50 * setting.counts.short))


def many(setting: Setting) -> None:
    setting.results.add(
        measure.many_at_once(setting.client, setting.bare, setting.counts.many, setting.parallel),
    )


def ours(setting: Setting) -> None:
    space.ours(setting, setting.daemon.rss_bytes())


def _sandbox(setting: Setting) -> Sandbox:
    return Sandbox.create(memory_mib=1024, timeout_s=3600, config=setting.client)


GROUPS: dict[str, Callable[[Setting], None]] = {
    "create": create,
    "warm": pools.warm,
    "commands": commands,
    "transfer": transfer,
    "gateway": through_gateway,
    "resume": state.resume,
    "many": many,
    "ours": ours,
    "state": state.state,
    "space": space.space,
}

if __name__ == "__main__":
    main()
