"""Pause, resume, snapshot, fork, rollback, freeze: of an idle sandbox, and of one that holds 200 MB."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from atoll import Sandbox
from bench.bare_saves import BareSave
from bench.measure import BUSY_WAIT, ECHO, Pairs, timed
from bench.pools import kill_all
from bench.report import Fact, Row
from bench.setting import Setting, wait_until

HELD_MIB = 200
READY = "/tmp/held"
# Random, because pages of zeros are not saved.
HOLD = f"import os, time; held = os.urandom({HELD_MIB} << 20); open({READY!r}, 'w').close(); time.sleep(36000)"
REST_S = 0.8
IDLE, HOLDING = "an idle sandbox", f"one that holds {HELD_MIB} MB"

_RESUME = "CubeSandbox 19–42 ms, on PVM 19–27 ms; isorun 21 ms"
_PAUSE = "CubeSandbox 558 ms, on PVM 371 ms (full copy); AgentENV < 100 ms; isorun 470 ms"
_STOPPED = "forkd 56 ms at 1.5 GiB; CubeSandbox 46 ms at 7 MB and 40 ms for each further 100 MB (PVM: 42 and 22)"
_FORK = "CubeSandbox 220 ms, on PVM 271 ms; mitos 104 ms to the first command"
_FORKS = "CubeSandbox on PVM: 20 in 790 ms; forkd: 100 in 101 ms; gVisor as forkd measured it: 100 in 289 s"
_ROLLBACK = "CubeSandbox 82 ms, on PVM 90 ms"
_WAKE = "Dormice about 50 ms"


def open_sandbox(setting: Setting, holding: bool) -> Sandbox:
    """A sandbox that lives through a group, with the program in it when `holding`."""
    sandbox = Sandbox.create(timeout_s=3600, config=setting.client)
    if holding:
        sandbox.files.write("/tmp/hold.py", HOLD)
        sandbox.run("setsid python3 /tmp/hold.py > /dev/null 2>&1 < /dev/null &")
        wait_until(lambda: sandbox.files.exists(READY), "the sandbox does not hold its memory")
    return sandbox


def say_hi(sandbox: Sandbox) -> None:
    """Raises RuntimeError when it does not answer a command."""
    if sandbox.run(ECHO).stdout != "hi\n":
        raise RuntimeError(f"{sandbox.id} did not say hi")


def resume(setting: Setting) -> None:
    """Pause, and resume to first output against the bare restore of such a guest."""
    for holding in (False, True):
        name = HOLDING if holding else IDLE
        count = setting.counts.large if holding else setting.counts.saves
        args, ready = (["python3", "-c", HOLD], ["test", "-e", READY]) if holding else (BUSY_WAIT, ["true"])
        bare = BareSave(setting.bare, setting.folder / f"image-{holding}", args, ready)
        pauses: list[float] = []
        with open_sandbox(setting, holding) as sandbox:

            def ours(sandbox: Sandbox = sandbox, pauses: list[float] = pauses) -> float:
                pauses.append(timed(sandbox.pause))
                # What ran before is taken down and its disk written out; the baseline has no such thing beside it.
                setting.wait_ready()
                time.sleep(REST_S)
                begun = time.perf_counter()
                sandbox.resume()
                say_hi(sandbox)
                return time.perf_counter() - begun

            pairs = Pairs()
            with setting.phases(pause=f"pause of {name}", resume=f"resume of {name}"):
                pairs.take(count, ours, lambda bare=bare: bare.resume(ECHO))  # type: ignore[misc]
        mine, theirs = pairs.medians
        setting.results.add(
            Row(
                f"resume of {name} from disk to first output",
                "`runsc restore` and `runsc exec` of the same",
                mine,
                theirs,
                "≤ 0.8 ×",
                mine <= 0.8 * theirs,
                others=_RESUME if not holding else "",
            ),
            Fact(f"pause of {name}", statistics.median(pauses) * 1000, "ms", _PAUSE if not holding else ""),
        )


def state(setting: Setting) -> None:
    """What has no baseline: how long the source of a snapshot stands still, forks, rollback, freeze and wake."""
    add, counts = setting.results.add, setting.counts
    for holding in (False, True):
        name = HOLDING if holding else IDLE
        with open_sandbox(setting, holding) as sandbox:
            stopped, whole = _snapshots(sandbox, counts.large if holding else counts.saves)
            others = _STOPPED if not holding else ""
            add(
                Fact(f"a snapshot of {name}: how long it stands still", stopped, "ms", others),
                Fact(f"a snapshot of {name}: until it is whole", whole * 1000, "ms"),
            )
            if holding:
                continue
            add(
                Fact("fork of 1, until it answers a command", _fork(sandbox, 1, counts.large) * 1000, "ms", _FORK),
                Fact(
                    "fork of 10, until all answer a command",
                    _fork(sandbox, 10, max(1, counts.large // 2)) * 1000,
                    "ms",
                    _FORKS,
                ),
                Fact("rollback to first output", _rollback(sandbox, counts.saves) * 1000, "ms", _ROLLBACK),
            )
            frozen = [(timed(sandbox.freeze), timed(lambda: say_hi(sandbox))) for _ in range(counts.short)]
            add(
                Fact("freeze", statistics.median(one for one, _ in frozen) * 1000, "ms"),
                Fact(
                    "wake from frozen to first output", statistics.median(two for _, two in frozen) * 1000, "ms", _WAKE
                ),
            )


def _snapshots(sandbox: Sandbox, count: int) -> tuple[float, float]:
    """Medians: milliseconds that it stood still, seconds of the whole call."""
    stopped, whole = [], []
    for _ in range(count):
        begun = time.perf_counter()
        snapshot = sandbox.snapshot()
        whole.append(time.perf_counter() - begun)
        stopped.append(snapshot.info.stopped_ms or 0.0)
        snapshot.delete()
        say_hi(sandbox)
    return statistics.median(stopped), statistics.median(whole)


def _fork(sandbox: Sandbox, many: int, count: int) -> float:
    """Median seconds until `many` siblings have each answered a command."""
    seconds = []
    with ThreadPoolExecutor(many) as threads:
        for _ in range(count):
            begun = time.perf_counter()
            siblings = list(sandbox.fork(many))
            try:
                list(threads.map(say_hi, siblings))
                seconds.append(time.perf_counter() - begun)
            finally:
                kill_all(siblings)
    return statistics.median(seconds)


def _rollback(sandbox: Sandbox, count: int) -> float:
    snapshot = sandbox.snapshot()

    def back() -> None:
        sandbox.rollback(snapshot)
        say_hi(sandbox)

    seconds = [timed(back) for _ in range(count)]
    snapshot.delete()
    return statistics.median(seconds)
