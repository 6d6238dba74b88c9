"""The operations, each timed in turn with its baseline, so that a machine that slows down slows both."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from atoll import AtollError, Config, Sandbox
from atolld.host.cores import AWAKE, DEVICE
from bench.bare import BareRuntime
from bench.report import Fact, Row

MIB = 1024 * 1024
ECHO = ["sh", "-c", "echo hi"]
BUSY_WAIT = ["sleep", "3600"]
MANY_MEMORY_MIB = 256
# Longer than our daemon keeps the cores awake after a sandbox was started, resumed or ended.
LET_SLEEP_S = 0.05

SPAWN_IN_GUEST = """
import os, time
argv = ["/bin/true"]
best = []
for _ in range(30):
    begun = time.perf_counter()
    pid = os.posix_spawn("/bin/true", argv, {})
    os.waitpid(pid, 0)
    best.append(time.perf_counter() - begun)
best.sort()
print(best[len(best) // 2])
"""


@dataclass
class Pairs:
    """Timings of ours and of the baseline, taken in turn."""

    ours: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)

    def take(
        self, count: int, ours: Callable[[], float], baseline: Callable[[], float], let_sleep_s: float = LET_SLEEP_S
    ) -> None:
        """Add `count` pairs after one of each that is not counted.

        Before the baseline all rests for `let_sleep_s`: it has the machine as it is, not as our daemon leaves it.
        """
        ours(), baseline()
        for _ in range(count):
            time.sleep(let_sleep_s)
            self.baseline.append(baseline())
            self.ours.append(ours())

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.ours), statistics.median(self.baseline)


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def created_and_used(client: Config, memory_mib: int = 512) -> float:
    """Seconds from asking for a sandbox to the output of its first command."""
    begun = time.perf_counter()
    sandbox = Sandbox.create(memory_mib=memory_mib, config=client)
    if sandbox.run(ECHO).stdout != "hi\n":
        raise RuntimeError("the sandbox did not say hi")
    seconds = time.perf_counter() - begun
    sandbox.kill()
    return seconds


def cold_create(
    name: str, client: Config, bare: BareRuntime, count: int, ready: Callable[[], None], memory_mib: int = 512
) -> Row:
    """Create to first command's output against `runsc run` of that command; `ready` is called before each create."""
    box = bare.prepare(ECHO)

    def ours() -> float:
        ready()
        return created_and_used(client, memory_mib)

    pairs = Pairs()
    pairs.take(count, ours, lambda: bare.run(box))
    mine, theirs = pairs.medians
    return Row(name, "`runsc run sh -c 'echo hi'`", mine, theirs, "≤ 1.15 ×", mine <= 1.15 * theirs)


@contextmanager
def awake() -> Iterator[None]:
    """The cores of this machine kept from sleeping, as our daemon does meanwhile. Raises OSError where it cannot."""
    with DEVICE.open("wb", buffering=0) as device:
        device.write(AWAKE)
        yield


def bare_on_awake_cores(bare: BareRuntime, count: int) -> list[Fact]:
    """What the baselines take when the cores are kept awake for them too."""
    once, waiting = bare.prepare(ECHO), bare.prepare(BUSY_WAIT)
    bare.start(waiting)
    with awake():
        run = statistics.median(bare.run(once) for _ in range(count))
        execute = statistics.median(bare.execute(waiting, ["/bin/true"]) for _ in range(count))
    return [
        Fact("for comparison: `runsc run sh -c 'echo hi'` on cores kept awake", run * 1000, "ms"),
        Fact("for comparison: `runsc exec /bin/true` on cores kept awake", execute * 1000, "ms"),
    ]


def running_command(sandbox: Sandbox, bare: BareRuntime, count: int) -> list[Row | Fact]:
    """A command in a running sandbox against `runsc exec`, and against the same spawn timed inside the guest."""
    box = bare.prepare(BUSY_WAIT)
    bare.start(box)
    pairs = Pairs()
    pairs.take(count, lambda: timed(lambda: sandbox.run(["/bin/true"])), lambda: bare.execute(box, ["/bin/true"]))
    mine, theirs = pairs.medians
    # Both in a row, without the baseline's work between: a guest that just slept spawns slower, from inside as well.
    sandbox.files.write("/tmp/spawn.py", SPAWN_IN_GUEST)
    inside = float(sandbox.run(["python3", "/tmp/spawn.py"]).stdout)
    in_a_row = statistics.median(timed(lambda: sandbox.run(["/bin/true"])) for _ in range(30))
    login = statistics.median(timed(lambda: sandbox.run(["bash", "-l", "-c", "echo hi"])) for _ in range(30))
    return [
        Fact("a command of a login shell, as E2B's clients send each, one after the other", login * 1000, "ms"),
        Row(
            "a command in a running sandbox", "`runsc exec /bin/true`", mine, theirs, "≤ 0.35 ×", mine <= 0.35 * theirs
        ),
        Row(
            "the same, one after the other",
            "the same spawn, timed inside the guest",
            in_a_row,
            inside,
            "≤ 3 ms more",
            in_a_row - inside <= 0.003,
            f"{(in_a_row - inside) * 1000:.1f} ms more",
        ),
    ]


def many_of_ours(client: Config, count: int) -> tuple[float, int]:
    """Seconds until `count` sandboxes, asked for at once, were created, used and ended; and how many failed."""

    def one(_: int) -> bool:
        try:
            with Sandbox.create(memory_mib=MANY_MEMORY_MIB, config=client) as sandbox:
                return sandbox.run(ECHO).stdout == "hi\n"
        except AtollError:
            return False

    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        done = list(pool.map(one, range(count)))
    return time.perf_counter() - begun, done.count(False)


def many_at_once(client: Config, bare: BareRuntime, count: int, parallel: int) -> Row:
    """As `many_of_ours`, against as many bare runs at the parallelism of our own launches."""
    boxes = [bare.prepare(ECHO) for _ in range(count)]
    theirs = bare.run_many(boxes, parallel)
    mine, failures = many_of_ours(client, count)
    return Row(
        f"{count} sandboxes at once",
        f"{count} × `runsc run`, {parallel} at a time",
        mine,
        theirs,
        "≤ 1.1 ×",
        mine <= 1.1 * theirs and not failures,
        f"{failures} failed" if failures else "",
    )


def transfer(sandbox: Sandbox, folder: Path, layer: Path, size_mib: int = 100) -> list[Row]:
    """Upload and download of a file against `cp` of it into the file system the sandbox's disk lies on."""
    source, back, copy = folder / "source", folder / "back", layer / "copy"
    source.write_bytes(bytes(range(256)) * (size_mib * MIB // 256))
    pairs_up, pairs_down = Pairs(), Pairs()

    def plain() -> float:
        copy.unlink(missing_ok=True)
        return timed(lambda: subprocess.run(["cp", str(source), str(copy)], check=True))

    def down() -> float:
        back.unlink(missing_ok=True)
        return timed(lambda: sandbox.files.download("/home/user/big", back))

    pairs_up.take(5, lambda: timed(lambda: sandbox.files.upload(source, "/home/user/big")), plain)
    pairs_down.take(5, down, plain)
    if back.read_bytes() != source.read_bytes():
        raise RuntimeError("what came back is not what was sent")
    copy.unlink(missing_ok=True)
    rows = []
    for name, pairs in (("upload", pairs_up), ("download", pairs_down)):
        mine, theirs = pairs.medians
        note = f"{size_mib / mine:.0f} MB/s against {size_mib / theirs:.0f}"
        rows.append(
            Row(
                f"{name} {size_mib} MB",
                "`cp` into the same file system",
                mine,
                theirs,
                "≤ 4 ×",
                mine <= 4 * theirs,
                note,
            )
        )
    return rows
