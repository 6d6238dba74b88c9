"""What every group measures with: the daemon, the bare runtime, and how often."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.conftest import Daemon

from atoll import Config, Pool
from bench.bare import BareRuntime
from bench.report import Results

FILL_DEADLINE_S = 180
# As it is installed: the tests' daemons keep none, so that they can count.
READY_CONTAINERS = 2
_PHASE = re.compile(r'atoll_sandbox_(\w+)_phase_seconds_(sum|count)\{phase="(\w+)".*\} (\S+)')


@dataclass(frozen=True)
class Counts:
    """How often: `short` for what takes tens of milliseconds, `saves` for what writes or reads a small save, `large`
    for what does so with 200 MB; `many` sandboxes at once."""

    short: int = 20
    saves: int = 10
    large: int = 5
    many: int = 50


QUICK = Counts(short=3, saves=2, large=1, many=6)


@dataclass
class Setting:
    """A running daemon of this run's own, and the bare runtime beside it; `folder` is scratch on the same disk."""

    daemon: Daemon
    bare: BareRuntime
    folder: Path
    counts: Counts
    results: Results

    @property
    def client(self) -> Config:
        return self.daemon.config

    @property
    def parallel(self) -> int:
        """How many launches the daemon does at once."""
        return 2 * (os.cpu_count() or 1)

    def wait_ready(self) -> None:
        """Wait until the daemon's containers wait, and the last of them has come to rest."""
        wait_until(lambda: self._gauge("atoll_pool_containers_ready") >= READY_CONTAINERS, "no containers wait")
        time.sleep(0.2)

    def _gauge(self, name: str) -> float:
        for line in self.daemon.api("GET", "/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise RuntimeError(f"the daemon has no metric {name}")

    @contextmanager
    def phases(self, **operations: str) -> Iterator[None]:
        """Keep the mean phases of what is done meanwhile; `operations`: verb of the metrics -> its name in the report.

        Called again with the same name, the later one counts.
        """
        before = self._read_phases()
        yield
        after = self._read_phases()
        for verb, name in operations.items():
            found: dict[str, float] = {}
            for (of, phase), (total, count) in after.items():
                total_before, count_before = before.get((of, phase), (0.0, 0.0))
                if of == verb and count > count_before:
                    found[phase] = (total - total_before) / (count - count_before)
            self.results.phases[name] = found

    def _read_phases(self) -> dict[tuple[str, str], tuple[float, float]]:
        sums: dict[tuple[str, str], dict[str, float]] = {}
        for line in self.daemon.api("GET", "/metrics").text.splitlines():
            if match := _PHASE.fullmatch(line):
                sums.setdefault((match[1], match[3]), {})[match[2]] = float(match[4])
        return {key: (found["sum"], found["count"]) for key, found in sums.items()}


def say(what: str) -> None:
    print(f"bench: {what} ...", file=sys.stderr, flush=True)


def wait_until(holds: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    """Raises RuntimeError when it does not hold after three minutes."""
    deadline = time.monotonic() + FILL_DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} after {FILL_DEADLINE_S} s")
        time.sleep(every_s)


def wait_full(pool: Pool, client: Config) -> None:
    """Wait until as many sandboxes wait as shall, and the last of them has come to rest."""
    wait_until(lambda: Pool.get(pool.id, config=client).warm >= pool.ready, f"pool {pool.id} is not full")
    time.sleep(0.2)
