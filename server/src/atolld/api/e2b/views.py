"""What E2B's clients get of sandboxes. Field names are the wire's."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel

from atolld.api.e2b.network import allowed
from atolld.api.e2b.options import CLIENT_ID, ENVD_VERSION, E2bOptions
from atolld.api.e2b.query import PAUSED_STATES
from atolld.core.sandbox import Sandbox
from atolld.foundation.clock import rfc3339
from atolld.node.interface import Usage

PauseMode = Literal["full", "filesystem"]

# `endAt` is required; a sandbox that never ends has one that no client will see.
NEVER = "2999-12-31T23:59:59.000Z"


class SandboxView(BaseModel):
    """A sandbox to connect to. `envdAccessToken` is left out when the agent is open (`secure` false)."""

    templateID: str
    sandboxID: str
    clientID: str
    alias: str
    envdVersion: str
    envdAccessToken: str | None = None
    trafficAccessToken: str | None = None
    domain: str | None = None

    @staticmethod
    def of(sandbox: Sandbox, options: E2bOptions) -> SandboxView:
        """The view of `sandbox`."""
        return SandboxView(
            templateID=sandbox.template_id,
            sandboxID=sandbox.id,
            clientID=CLIENT_ID,
            alias=sandbox.template_name,
            envdVersion=ENVD_VERSION,
            envdAccessToken=sandbox.agent_token if sandbox.spec.secure else None,
            trafficAccessToken=sandbox.traffic_token,
            domain=options.domain,
        )


class ListedSandbox(BaseModel):
    """A sandbox of a list. CPU counts are whole: half a core is shown as one."""

    templateID: str
    alias: str
    sandboxID: str
    clientID: str
    startedAt: str
    endAt: str
    cpuCount: int
    memoryMB: int
    diskSizeMB: int
    metadata: dict[str, str]
    state: Literal["running", "paused"]
    envdVersion: str
    volumeMounts: list[object]

    @staticmethod
    def of(sandbox: Sandbox) -> ListedSandbox:
        """The view of `sandbox`."""
        return ListedSandbox(**_listed(sandbox))


class NetworkView(BaseModel):
    """The network configuration of a sandbox."""

    allowPublicTraffic: bool
    allowOut: list[str] | None = None
    denyOut: list[str] | None = None
    maskRequestHost: str | None = None


class LifecycleView(BaseModel):
    """What happens when a sandbox's time is over."""

    autoResume: bool
    onTimeout: Literal["kill", "pause"]


class SandboxDetail(ListedSandbox):
    """One sandbox in full. `pauseMode`: what the pause of a paused one has saved."""

    envdAccessToken: str | None = None
    allowInternetAccess: bool | None = None
    domain: str | None = None
    network: NetworkView
    lifecycle: LifecycleView
    pauseMode: PauseMode | None = None

    @staticmethod
    def detail(sandbox: Sandbox, options: E2bOptions, pause_mode: PauseMode | None = None) -> SandboxDetail:
        """The view of `sandbox`."""
        network, policy = sandbox.spec.network, sandbox.spec.lifecycle
        return SandboxDetail(
            **_listed(sandbox),
            envdAccessToken=sandbox.agent_token if sandbox.spec.secure else None,
            allowInternetAccess=network.internet,
            domain=options.domain,
            network=NetworkView(
                allowPublicTraffic=network.allow_public_traffic,
                allowOut=allowed(network.allow_out),
                denyOut=allowed(network.deny_out),
                maskRequestHost=network.mask_request_host,
            ),
            lifecycle=LifecycleView(autoResume=policy.auto_resume, onTimeout=policy.on_timeout.value),
            pauseMode=pause_mode,
        )


class Metric(BaseModel):
    """One sample of what a sandbox uses; sizes in bytes."""

    timestamp: str
    timestampUnix: int
    cpuCount: int
    cpuUsedPct: float
    memUsed: int
    memTotal: int
    memCache: int
    diskUsed: int
    diskTotal: int

    @staticmethod
    def of(usage: Usage) -> Metric:
        """The view of `usage`."""
        return Metric(
            timestamp=rfc3339(usage.at),
            timestampUnix=int(usage.at),
            cpuCount=math.ceil(usage.cpu_count),
            cpuUsedPct=usage.cpu_used_pct,
            memUsed=usage.memory_used_bytes,
            memTotal=usage.memory_total_bytes,
            memCache=usage.memory_cache_bytes,
            diskUsed=usage.disk_used_bytes,
            diskTotal=usage.disk_total_bytes,
        )


class Metrics(BaseModel):
    """The newest sample of each sandbox that has one, by its id."""

    sandboxes: dict[str, Metric]


class ErrorView(BaseModel):
    """Every answer that is not 2xx."""

    code: int
    message: str
    error_code: str | None = None


def _listed(sandbox: Sandbox) -> dict[str, object]:
    bounds, paused = sandbox.spec.resources, sandbox.state in PAUSED_STATES
    return {
        "templateID": sandbox.template_id,
        "alias": sandbox.template_name,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "startedAt": rfc3339(sandbox.started_at if sandbox.started_at is not None else sandbox.created_at),
        "endAt": _end_at(sandbox, paused),
        "cpuCount": math.ceil(bounds.cpu),
        "memoryMB": bounds.memory_mib,
        "diskSizeMB": bounds.disk_mib,
        "metadata": dict(sandbox.spec.metadata),
        "state": "paused" if paused else "running",
        "envdVersion": ENVD_VERSION,
        "volumeMounts": [],
    }


def _end_at(sandbox: Sandbox, paused: bool) -> str:
    # A paused one has no end; E2B tells since when it is paused.
    moment = sandbox.expires_at
    if moment is None and paused:
        moment = sandbox.paused_at
    return NEVER if moment is None else rfc3339(moment)
