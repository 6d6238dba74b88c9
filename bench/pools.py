"""Warm pools: creates that find one waiting, and many at once of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from atoll import Pool, Sandbox
from bench.measure import ECHO, MANY_MEMORY_MIB, Pairs, created_and_used, many_of_ours
from bench.report import Row
from bench.setting import Setting, wait_full

_CREATE_ELSEWHERE = (
    "CubeSandbox 48 ms, on a 16-core PVM host 67 ms; AgentENV < 50 ms; isorun 27 ms; mitos 27 ms; over the internet: "
    "Northflank 96 ms, Daytona 136 ms, E2B 366 ms"
)
_MANY_ELSEWHERE = (
    "CubeSandbox, 50 clients on 96 threads: 276 ms each, 148 a second; Archil, 100 over the internet: 0.56 s"
)


def warm(setting: Setting) -> None:
    """Create to first output with one waiting, and `many` at once with as many waiting."""
    client, counts = setting.client, setting.counts
    pool = Pool.set("base", ready=1, config=client)
    box = setting.bare.prepare(ECHO)

    def ours() -> float:
        wait_full(pool, client)
        return created_and_used(client)

    pairs = Pairs()
    with setting.phases(create="create from a warm pool"):
        pairs.take(counts.short, ours, lambda: setting.bare.run(box))
    mine, theirs = pairs.medians
    pool.delete()
    setting.results.add(
        Row(
            "create to first output from a warm pool",
            "`runsc run sh -c 'echo hi'`",
            mine,
            theirs,
            "≤ 0.15 ×",
            mine <= 0.15 * theirs,
            others=_CREATE_ELSEWHERE,
        )
    )
    _many(setting)


def _many(setting: Setting) -> None:
    client, many = setting.client, setting.counts.many
    pool = Pool.set("base", ready=many, memory_mib=MANY_MEMORY_MIB, config=client)
    wait_full(pool, client)
    boxes = [setting.bare.prepare(ECHO) for _ in range(many)]
    theirs = setting.bare.run_many(boxes, setting.parallel)
    mine, failures = many_of_ours(client, many)
    claims = Pool.get(pool.id, config=client).info.claims
    pool.delete()
    note = f"{claims} of {many} from the pool" + (f", {failures} failed" if failures else "")
    setting.results.add(
        Row(
            f"{many} sandboxes at once from a warm pool",
            f"{many} × `runsc run`, {setting.parallel} at a time",
            mine,
            theirs,
            "≤ 1.1 ×",
            mine <= 1.1 * theirs and not failures,
            note,
            others=_MANY_ELSEWHERE,
        )
    )


def kill_all(sandboxes: list[Sandbox]) -> None:
    """End them, several at once."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda sandbox: sandbox.kill(), sandboxes))
    time.sleep(0.2)
