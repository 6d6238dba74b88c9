"""What the groups measure, and the report made of it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class Row:
    """One operation against its baseline. `others`: see `Fact`."""

    operation: str
    baseline: str
    ours_s: float
    baseline_s: float
    goal: str
    met: bool
    note: str = ""
    others: str = ""

    @property
    def ratio(self) -> float:
        return self.ours_s / self.baseline_s


@dataclass(frozen=True)
class Bound:
    """Something of ours that has a goal and no baseline."""

    what: str
    value: float
    unit: str
    most: float

    @property
    def met(self) -> bool:
        return self.value < self.most


@dataclass(frozen=True)
class Fact:
    """A number without a goal. `others`: what is published of other systems, on other people's machines."""

    what: str
    value: float
    unit: str
    others: str = ""
    note: str = ""


@dataclass
class Results:
    """All of one run. `phases`: operation -> phase -> mean seconds. `failures`: group -> what went wrong."""

    rows: list[Row] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, *what: Row | Bound | Fact) -> None:
        """Enter what was measured, in the order of the report."""
        for one in what:
            if isinstance(one, Row):
                self.rows.append(one)
            elif isinstance(one, Bound):
                self.bounds.append(one)
            else:
                self.facts.append(one)


def machine(gvisor: str) -> dict[str, str]:
    """What it ran on."""
    release = subprocess.run(
        ["sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"], capture_output=True, text=True, check=True
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().split("-")[0]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {kernel}, {release.stdout.strip()}",
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "gvisor": gvisor,
    }


def to_json(results: Results, about: dict[str, str]) -> dict[str, object]:
    """The run as JSON: seconds and the units that are named."""
    return {
        **about,
        "rows": [{**asdict(row), "ratio": row.ratio} for row in results.rows],
        "bounds": [{**asdict(bound), "met": bound.met} for bound in results.bounds],
        "facts": [asdict(fact) for fact in results.facts],
        "phases": results.phases,
        "failures": results.failures,
    }


def to_markdown(results: Results, about: dict[str, str]) -> str:
    """The run as docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Each operation of ours is timed in turn with its baseline in one run,",
        "and the medians are compared. Absolute times depend on the machine and its mood; the ratio is what counts.",
        "",
        f"- date: {about['date']}; load of the machine before: {about['load_before']}",
        f"- machine: {about['machine']}",
        f"- gVisor: {about['gvisor']}; the bare runs use the same binary, platform and root file system, with a",
        "  prepared network namespace and without cgroup limits",
        "- our daemon as it is installed: two containers, without root file system or guest, wait for sandboxes of the",
        "  default size, which both the first row and resumes make use of; it keeps the cores awake while a sandbox is",
        "  started, resumed or saved (`awake_ms`). The bare runs have the machine as it is; below, they on such cores",
        "",
        "## Goals",
        "",
        "| operation | ours | baseline | | ratio | goal | |",
        "|---|---|---|---|---|---|---|",
        *(_row(row) for row in results.rows),
        *(
            f"| {bound.what} | {bound.value:.2f} {bound.unit} | | | | < {bound.most:g} {bound.unit} | "
            f"{_verdict(bound.met)} |"
            for bound in results.bounds
        ),
    ]
    for group, words in results.failures.items():
        lines.append(f"| {group} | **failed**: {words} | | | | | |")
    compared = [Fact(row.operation, row.ours_s * 1000, "ms", row.others) for row in results.rows if row.others]
    if compared or results.facts:
        lines += [
            "",
            "## State",
            "",
            "The last column is for orientation only: what others have published of their systems, measured on **other",
            "people's machines**, mostly larger ones, by other methods. Nothing in it was measured here.",
            "",
            "| what | ours | elsewhere |",
            "|---|---|---|",
            *(_fact(fact) for fact in (*compared, *results.facts)),
        ]
    if results.phases:
        lines += ["", "## Where the time goes", "", "Means in milliseconds, by the daemon's own metrics.", ""]
        lines += ["| operation | phases |", "|---|---|"]
        for operation, phases in results.phases.items():
            told = " · ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in phases.items())
            lines.append(f"| {operation} | {told} |")
        lines += ["", *_PHASES]
    return "\n".join([*lines, ""])


_PHASES = (
    "`record` and `publish` are the database; `claim` lets a waiting sandbox run, as its owner wants it. `check` reads",
    "the save's manifest and the checksum of its disk; `prepare` takes a network slot and a disk (from their pools, or",
    "cloned from the save) and mounts the root file system; `start` and `restore` are the one `runsc` command;",
    "`verify` is what is left then of comparing the memory with its checksums; `agent` is until the guest's agent",
    "answers. Of a pause: `settle` writes out what is dirty while the guest runs; `suspend`, `memory` and `disk` are",
    "while it stands still; `finish` is checksums and the name; `free` is until nothing of it is in memory. A resume",
    "is timed a second after the pause, when the machine is at rest, as it is before the baseline.",
)


def _row(row: Row) -> str:
    note = f" ({row.note})" if row.note else ""
    return (
        f"| {row.operation} | {row.ours_s * 1000:.1f} ms | {row.baseline} | {row.baseline_s * 1000:.1f} ms | "
        f"{row.ratio:.2f} | {row.goal} | {_verdict(row.met)}{note} |"
    )


def _fact(fact: Fact) -> str:
    digits = 0 if fact.unit == "" else 1 if fact.value >= 10 else 2
    note = f" ({fact.note})" if fact.note else ""
    return f"| {fact.what} | {fact.value:.{digits}f} {fact.unit}{note} | {fact.others} |"


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"
