"""What this machine offers: runtimes, health, metrics, the doctor."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Depends, Response

from atolld.api.native.machine_schemas import (
    CheckView,
    DoctorView,
    HealthView,
    RuntimeView,
    VersionView,
)
from atolld.api.native.schemas import Items
from atolld.api.services import Caller, Use, local_or_public

router = APIRouter(tags=["machine"])


@router.get("/v1/runtimes")
async def list_runtimes(use: Use, _caller: Caller) -> Items[RuntimeView]:
    """Every runtime the daemon knows, with what isolates a sandbox in it, or why it cannot be used here."""
    found = await use.node.fingerprints()
    return Items(items=[RuntimeView.of(fingerprint) for fingerprint in found.values()])


@router.get("/v1/doctor")
async def doctor(use: Use, _caller: Caller) -> DoctorView:
    """Check the machine, and say what to do about each fault."""
    checks = await use.doctor()
    views = [
        CheckView(name=check.name, ok=check.ok, summary=check.summary, remedy=check.remedy, fatal=check.fatal)
        for check in checks
    ]
    return DoctorView(ok=all(check.ok or not check.fatal for check in checks), checks=views)


@router.get("/v1/version")
async def get_version() -> VersionView:
    """Versions; needs no key."""
    return VersionView(version=version("atolld"))


@router.get("/health")
async def health(use: Use) -> HealthView:
    """Whether the daemon serves; needs no key and does no work."""
    return HealthView.model_validate(use.health())


@router.get("/metrics", dependencies=[Depends(local_or_public)], response_class=Response)
async def metrics(use: Use) -> Response:
    """Prometheus metrics of the daemon."""
    return Response(use.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
