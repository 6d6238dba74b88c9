"""What goes over the wire in the native API. Unknown fields are refused, numbers are numbers, times are RFC 3339."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from atolld.control.origins import Origin
from atolld.core.event import Event
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy, OnIdle, OnTimeout
from atolld.core.project import ApiKey, Project, ProjectLimits
from atolld.core.sandbox import MAX_TIMEOUT_S, Resources, Sandbox, SandboxSpec
from atolld.foundation.clock import rfc3339
from atolld.foundation.ids import parse_name
from atolld.node.interface import NodeCapacity, Usage

T = TypeVar("T")

Strict = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
TimeoutS = Annotated[int, Field(strict=True, ge=1, le=MAX_TIMEOUT_S)]


INTERNET = "Whether packets to public addresses leave, but for those of `allow_out`."
ALLOW_OUT = (
    "Addresses and networks (`1.1.1.1`, `8.8.0.0/16`) that are reached even when they are denied; at most 256. IPv6 "
    "ones are kept and change nothing, for no IPv6 leaves a sandbox."
)
DENY_OUT = "Addresses and networks that are not reached, name servers among them; `0.0.0.0/0` is everything."
ALLOW_PUBLIC_TRAFFIC = "Whether its ports answer who comes without its traffic token (and without an API key)."
RUNTIME = "What isolates it, by default `gvisor`; `GET /v1/runtimes` lists what this machine can."
KEEP_MEMORY = "Whether a pause by time or idleness keeps memory and processes, or files only."
AUTO_RESUME = "Whether a request to its agent or a port wakes it while it is paused. A frozen one is always woken."
IDLE_TIMEOUT = (
    "Seconds without a request in flight and with next to no CPU use after which `on_idle` is done; null: never."
)
ON_IDLE = "`freeze` stops its processes where they are and keeps its memory; `pause` saves it to disk and frees it."
PAUSE_AFTER = "With `on_idle: freeze`: seconds frozen after which it is paused to disk; null: never."
MASK_REQUEST_HOST = "The `Host` that programs on its ports see, like `localhost:${PORT}`."


class Request(BaseModel):
    """Base of bodies that come in."""

    model_config = ConfigDict(extra="forbid")


class Policy(Request):
    """What happens when its time is up, and while nobody uses it."""

    on_timeout: OnTimeout = Field(OnTimeout.KILL, description="What the end of its time does.")
    keep_memory: bool = Field(True, strict=True, description=KEEP_MEMORY)
    auto_resume: bool = Field(True, strict=True, description=AUTO_RESUME)
    idle_timeout_s: Strict | None = Field(None, description=IDLE_TIMEOUT)
    on_idle: OnIdle = Field(OnIdle.FREEZE, description=ON_IDLE)
    pause_after_s: Strict | None = Field(None, description=PAUSE_AFTER)

    def to_policy(self) -> LifecyclePolicy:
        """The whole policy, with the default of what was left out."""
        return LifecyclePolicy(
            on_timeout=self.on_timeout,
            keep_memory=self.keep_memory,
            auto_resume=self.auto_resume,
            idle_timeout_s=self.idle_timeout_s,
            on_idle=self.on_idle,
            pause_after_s=self.pause_after_s,
        )


class Wanted(Request):
    """How a sandbox is to be bounded and isolated; what is left out is the template's, or the snapshot's."""

    runtime: str | None = Field(None, description=RUNTIME)
    cpu: Number | None = Field(None, description="CPU in cores, 0.1 to 256. A template's is mostly 1.")
    memory_mib: Strict | None = Field(None, description="Memory in MiB. A template's is mostly 512.")
    disk_mib: Strict | None = Field(None, description="Writable disk in MiB. A template's is mostly 10240.")
    pids_max: Strict | None = Field(None, description="Processes and threads at once. A template's is mostly 1024.")

    def of(self, origin: Origin) -> tuple[str, Resources]:
        """Runtime and bounds of a sandbox from `origin`. Raises InvalidArgument."""
        return origin.settle(
            runtime=None if self.runtime is None else parse_name(self.runtime, "runtime"),
            cpu=self.cpu,
            memory_mib=self.memory_mib,
            disk_mib=self.disk_mib,
            pids_max=self.pids_max,
        )


class CreateSandbox(Wanted, Policy):
    """A sandbox to be created; everything is optional."""

    template: str = Field("base", description="What it starts from: a template, or a snapshot by its name or id.")
    timeout_s: Strict | None = Field(
        300, description="Seconds after which `on_timeout` is done; null means never. It can be changed later."
    )
    envs: dict[str, str] = Field(default_factory=dict, description="Environment of every process in it.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Your own; stored and filtered by.")
    internet: bool = Field(True, strict=True, description=INTERNET)
    allow_out: list[str] = Field(default_factory=list, description=ALLOW_OUT)
    deny_out: list[str] = Field(default_factory=list, description=DENY_OUT)
    allow_public_traffic: bool = Field(False, strict=True, description=ALLOW_PUBLIC_TRAFFIC)
    mask_request_host: str | None = Field(None, description=MASK_REQUEST_HOST)

    def to_spec(self, origin: Origin) -> SandboxSpec:
        """The value the core works with; `origin` is what `template` names. Raises InvalidArgument."""
        runtime, resources = self.of(origin)
        return SandboxSpec(
            template=self.template,
            runtime=runtime,
            resources=resources,
            timeout_s=self.timeout_s,
            envs=self.envs,
            metadata=self.metadata,
            network=NetworkPolicy.of(
                internet=self.internet,
                allow_out=self.allow_out,
                deny_out=self.deny_out,
                allow_public_traffic=self.allow_public_traffic,
                mask_request_host=self.mask_request_host,
            ),
            lifecycle=self.to_policy(),
        )


class SetTimeout(Request):
    """A new end, counted from now; null means never."""

    timeout_s: TimeoutS | None


class ConnectSandbox(Request):
    """With `timeout_s` the end is moved to at least that far from now, never nearer."""

    timeout_s: TimeoutS | None = None


class SetNetwork(Request):
    """A new policy, in force when the answer is there.

    What the sandbox may reach is replaced as a whole. Who may reach it stays as it is where it is left out.
    """

    internet: bool = Field(strict=True, description=INTERNET)
    allow_out: list[str] = Field(default_factory=list, description=ALLOW_OUT)
    deny_out: list[str] = Field(default_factory=list, description=DENY_OUT)
    allow_public_traffic: bool | None = Field(None, strict=True, description=ALLOW_PUBLIC_TRAFFIC)
    mask_request_host: str | None = Field(None, description=MASK_REQUEST_HOST + " An empty text takes it away.")

    def to_change(self) -> Callable[[NetworkPolicy], NetworkPolicy]:
        """The change of a policy that this asks for. Raises InvalidArgument."""
        mask = self.mask_request_host
        wanted = NetworkPolicy.of(
            internet=self.internet, allow_out=self.allow_out, deny_out=self.deny_out, mask_request_host=mask or None
        )

        def change(before: NetworkPolicy) -> NetworkPolicy:
            open_ = self.allow_public_traffic
            return replace(
                wanted,
                allow_public_traffic=before.allow_public_traffic if open_ is None else open_,
                mask_request_host=before.mask_request_host if mask is None else wanted.mask_request_host,
            )

        return change


class CreateKey(Request):
    """A new API key of the caller's project."""

    name: str = Field(min_length=1, max_length=64)


class SandboxView(BaseModel):
    """A sandbox. `timings_ms` (where the time of the start went) and `from_pool` (whether a warm pool had it ready) are
    set in the answer to the create only.

    `template` names what it was started from. `head_id`: the checkpoint that it stands on, and that its next one's
    parent will be. `paused_at`: since when it is paused.

    `traffic_token` opens its ports to who sends it in the header `e2b-traffic-access-token`; null as long as they were
    never closed to the public.
    """

    id: str
    template: str
    runtime: str
    state: SandboxState
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    metadata: dict[str, str]
    internet: bool
    allow_out: list[str]
    deny_out: list[str]
    allow_public_traffic: bool
    traffic_token: str | None
    mask_request_host: str | None
    created_at: str
    started_at: str | None
    expires_at: str | None
    ended_at: str | None
    end_reason: EndReason | None
    end_message: str | None
    on_timeout: OnTimeout
    keep_memory: bool
    auto_resume: bool
    idle_timeout_s: int | None
    on_idle: OnIdle
    pause_after_s: int | None
    paused_at: str | None
    head_id: str | None
    timings_ms: dict[str, float] | None = None
    from_pool: bool | None = None

    @staticmethod
    def of(sandbox: Sandbox, phases_s: Mapping[str, float] | None = None, from_pool: bool | None = None) -> SandboxView:
        """The view of `sandbox`."""
        spec, lifecycle = sandbox.spec, sandbox.spec.lifecycle
        timings = None if phases_s is None else {name: round(took * 1000, 3) for name, took in phases_s.items()}
        return SandboxView(
            id=sandbox.id,
            template=sandbox.template_name,
            runtime=spec.runtime,
            state=sandbox.state,
            cpu=spec.resources.cpu,
            memory_mib=spec.resources.memory_mib,
            disk_mib=spec.resources.disk_mib,
            pids_max=spec.resources.pids_max,
            metadata=dict(spec.metadata),
            internet=spec.network.internet,
            allow_out=list(spec.network.allow_out),
            deny_out=list(spec.network.deny_out),
            allow_public_traffic=spec.network.allow_public_traffic,
            traffic_token=sandbox.traffic_token,
            mask_request_host=spec.network.mask_request_host,
            created_at=rfc3339(sandbox.created_at),
            started_at=moment(sandbox.started_at),
            expires_at=moment(sandbox.expires_at),
            ended_at=moment(sandbox.ended_at),
            end_reason=sandbox.end_reason,
            end_message=sandbox.end_message,
            on_timeout=lifecycle.on_timeout,
            keep_memory=lifecycle.keep_memory,
            auto_resume=lifecycle.auto_resume,
            idle_timeout_s=lifecycle.idle_timeout_s,
            on_idle=lifecycle.on_idle,
            pause_after_s=lifecycle.pause_after_s,
            paused_at=moment(sandbox.paused_at),
            head_id=sandbox.head_id,
            timings_ms=timings,
            from_pool=from_pool,
        )


class Items(BaseModel, Generic[T]):
    """All there is, or the newest of it."""

    items: list[T]


class SandboxPage(BaseModel):
    """One page; `next_cursor` is null on the last. `total_running`: how many of the project run, on all pages."""

    items: list[SandboxView]
    next_cursor: str | None
    total_running: int


class UsageView(BaseModel):
    """One sample of what a sandbox uses. CPU in percent of one core, everything else in bytes."""

    timestamp: str
    cpu_count: float
    cpu_used_pct: float
    memory_used_bytes: int
    memory_total_bytes: int
    memory_cache_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int

    @staticmethod
    def of(usage: Usage) -> UsageView:
        """The view of `usage`."""
        return UsageView(
            timestamp=rfc3339(usage.at),
            cpu_count=usage.cpu_count,
            cpu_used_pct=usage.cpu_used_pct,
            memory_used_bytes=usage.memory_used_bytes,
            memory_total_bytes=usage.memory_total_bytes,
            memory_cache_bytes=usage.memory_cache_bytes,
            disk_used_bytes=usage.disk_used_bytes,
            disk_total_bytes=usage.disk_total_bytes,
        )


class LogLine(BaseModel):
    """One line of the agent's log; it comes from inside the sandbox and proves nothing."""

    timestamp: str | None
    level: str
    message: str
    fields: dict[str, object]


class EventView(BaseModel):
    """Something that happened to a sandbox. `sequence` grows; pass the last one seen as `after`."""

    id: str
    sequence: int
    type: str
    sandbox_id: str
    timestamp: str
    data: dict[str, object]

    @staticmethod
    def of(event: Event) -> EventView:
        """The view of `event`."""
        return EventView(
            id=event.id,
            sequence=event.sequence,
            type=event.type,
            sandbox_id=event.sandbox_id,
            timestamp=rfc3339(event.at),
            data=dict(event.data),
        )


class KeyView(BaseModel):
    """An API key without its secret; `prefix` is how it begins."""

    id: str
    name: str
    prefix: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None

    @staticmethod
    def of(key: ApiKey) -> KeyView:
        """The view of `key`."""
        return KeyView(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            created_at=rfc3339(key.created_at),
            last_used_at=moment(key.last_used_at),
            revoked_at=moment(key.revoked_at),
        )


class CreatedKey(BaseModel):
    """A new key. `secret` is shown here and never again."""

    key: KeyView
    secret: str


class LimitsView(BaseModel):
    """What the project may hold at once; null: only the machine limits it."""

    max_sandboxes: int | None
    max_cpu: float | None
    max_memory_mib: int | None
    max_snapshots: int | None
    max_saved_mib: int | None

    @staticmethod
    def of(limits: ProjectLimits) -> LimitsView:
        """The view of `limits`."""
        return LimitsView(
            max_sandboxes=limits.max_sandboxes,
            max_cpu=limits.max_cpu,
            max_memory_mib=limits.max_memory_mib,
            max_snapshots=limits.max_snapshots,
            max_saved_mib=limits.max_saved_mib,
        )


class UseView(BaseModel):
    """What the machine has and what is taken, by all projects together."""

    sandboxes: int
    max_sandboxes: int
    cpu_total: float
    cpu_taken: float
    memory_total_mib: int
    memory_taken_mib: int
    disk_free_mib: int

    @staticmethod
    def of(capacity: NodeCapacity) -> UseView:
        """The view of `capacity`."""
        return UseView(
            sandboxes=capacity.sandboxes,
            max_sandboxes=capacity.max_sandboxes,
            cpu_total=capacity.cpu_total,
            cpu_taken=capacity.cpu_taken,
            memory_total_mib=capacity.memory_total_mib,
            memory_taken_mib=capacity.memory_taken_mib,
            disk_free_mib=capacity.disk_free_mib,
        )


class ProjectView(BaseModel):
    """The project of the key, its limits, how many of its sandboxes run, and the machine's room."""

    id: str
    name: str
    limits: LimitsView
    running: int
    machine: UseView

    @staticmethod
    def of(project: Project, running: int, capacity: NodeCapacity) -> ProjectView:
        """The view of `project`."""
        return ProjectView(
            id=project.id,
            name=project.name,
            limits=LimitsView.of(project.limits),
            running=running,
            machine=UseView.of(capacity),
        )


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str
    details: dict[str, object] | None = None


class ErrorView(BaseModel):
    """Every answer that is not 2xx."""

    error: ErrorBody


def moment(unix_s: float | None) -> str | None:
    """RFC 3339, None when it has not happened."""
    return None if unix_s is None else rfc3339(unix_s)
