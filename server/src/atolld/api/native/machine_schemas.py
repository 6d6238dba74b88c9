"""What goes over the wire about the machine: templates, runtimes, health, versions, the doctor."""

from __future__ import annotations

from pydantic import BaseModel

from atolld.runtime.driver import Fingerprint


class RuntimeView(BaseModel):
    """What this machine can do with a runtime. `reason` says why it is not usable; `missing` why powers lack."""

    name: str
    usable: bool
    reason: str
    version: str
    isolation: str
    missing: dict[str, str]
    details: dict[str, str]

    @staticmethod
    def of(found: Fingerprint) -> RuntimeView:
        """The view of `found`."""
        return RuntimeView(
            name=found.driver,
            usable=found.usable,
            reason=found.reason,
            version=found.version,
            isolation=found.isolation,
            missing={power.value: sentence for power, sentence in found.missing.items()},
            details=dict(found.details),
        )


class HealthView(BaseModel):
    """`status` is `ok` whenever this answers."""

    status: str
    version: str
    uptime_s: float
    sandboxes: int


class VersionView(BaseModel):
    """Versions of the daemon and of the API."""

    version: str
    api: str = "v1"


class CheckView(BaseModel):
    """One check of the machine. `remedy`: what to do when it is not ok; `fatal`: no sandbox can run until it is."""

    name: str
    ok: bool
    summary: str
    remedy: str
    fatal: bool


class DoctorView(BaseModel):
    """All checks; `ok` when sandboxes can run."""

    ok: bool
    checks: list[CheckView]
