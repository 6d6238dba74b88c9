"""What control reports about itself; the daemon turns it into metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Telemetry(Protocol):
    """Takes counts and observations. Both return at once and never raise.

    Counts: `sandbox_creates` {runtime, outcome: "ok" or an error's code}, `sandbox_ends` {runtime, reason},
    `sandbox_cleanup_failures` {runtime}, `usage_sample_failures` {}.
    Observations in seconds: `sandbox_create_seconds` {runtime}, `sandbox_create_phase_seconds` {runtime, phase},
    `sandbox_end_seconds` {runtime}, `sandbox_expiry_delay_seconds` {}, `sandbox_pause_phase_seconds` and
    `sandbox_resume_phase_seconds` {runtime, phase}.
    """

    def count(self, name: str, labels: Mapping[str, str]) -> None:
        """One more."""
        ...

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """One measured value."""
        ...


def observe_phases(telemetry: Telemetry, name: str, runtime: str, phases_s: Mapping[str, float]) -> None:
    """Where the time of one `name` ("create", "pause", "resume") went."""
    for phase, seconds in phases_s.items():
        telemetry.observe(f"sandbox_{name}_phase_seconds", seconds, {"runtime": runtime, "phase": phase})


class NoTelemetry:
    """Forgets everything it is told."""

    def count(self, name: str, labels: Mapping[str, str]) -> None:
        """See `Telemetry.count`."""

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """See `Telemetry.observe`."""
