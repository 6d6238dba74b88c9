"""The named gaps: checks that fail, and are known to."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from e2e.e2b.runs import Report

FILE = Path(__file__).parent / "known_gaps.toml"


@dataclass(frozen=True)
class Gap:
    """One check that fails in the reports named (or "*": in all), and why."""

    check: str
    reports: tuple[str, ...]
    reason: str

    def covers(self, report: str, check: str) -> bool:
        return check == self.check and ("*" in self.reports or report in self.reports)


def load(path: Path = FILE) -> list[Gap]:
    """The gaps in `path`."""
    with open(path, "rb") as file:
        return [Gap(row["check"], tuple(row["in"]), row["reason"]) for row in tomllib.load(file).get("gap", [])]


def complaints(report: Report, gaps: list[Gap]) -> list[str]:
    """What is wrong with `report`: failures that are no known gap, gaps that have closed, methods without a check."""
    found = [f"{method}: no check covers it" for method in report.untested]
    for result in report.results:
        known = any(gap.covers(report.name, result.check) for gap in gaps)
        if result.status == "fail" and not known:
            found.append(f"{result.check}: {result.reason}")
        elif result.status == "ok" and known:
            found.append(f"{result.check}: this known gap has closed; take it out of {FILE.name}")
    return found
