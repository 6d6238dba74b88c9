"""From E2B's request for a sandbox to a spec."""

from __future__ import annotations

from atolld.api.e2b.network import policy_of
from atolld.api.e2b.options import E2bOptions
from atolld.api.e2b.requests import NewSandbox
from atolld.control.origins import Origin
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.core.sandbox import SandboxSpec
from atolld.foundation.errors import InvalidArgument, Unimplemented


def timeout_s(asked: int, options: E2bOptions) -> int:
    """A timeout in seconds, at least 1: a sandbox that is to end now ends in a second.

    Raises InvalidArgument over the longest one.
    """
    if asked > options.max_timeout_h * 3600:
        raise InvalidArgument(f"Timeout cannot be greater than {options.max_timeout_h} hours")
    return max(1, asked)


def spec_of(body: NewSandbox, origin: Origin, options: E2bOptions, *, secure: bool, timeout: int) -> SandboxSpec:
    """What `body` asks for. `timeout`: what counts when it names none, in seconds.

    Raises InvalidArgument, and Unimplemented for what would otherwise be silently ignored.
    """
    refuse_what_is_missing(body)
    network = policy_of(body.network, body.allow_internet_access)
    if not network.allow_public_traffic and not secure:
        raise InvalidArgument(
            "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag."
        )
    return SandboxSpec(
        template=origin.name,
        runtime=origin.runtime,
        resources=origin.resources,
        timeout_s=timeout_s(timeout if body.timeout is None else body.timeout, options),
        envs=body.envVars or {},
        metadata=body.metadata or {},
        network=network,
        secure=secure,
        lifecycle=lifecycle_of(body),
    )


def lifecycle_of(body: NewSandbox) -> LifecyclePolicy:
    """What is to happen at the end of its time, and whether a request wakes it. Raises InvalidArgument."""
    resumes = body.autoResume is not None and body.autoResume.get("enabled") is True
    if body.autoPauseMemory is False and not body.autoPause:
        raise InvalidArgument("autoPauseMemory can only be false when autoPause is true")
    if body.autoPauseMemory is False and resumes:
        raise InvalidArgument("autoResume cannot be enabled when autoPauseMemory is false")
    return LifecyclePolicy(
        on_timeout=OnTimeout.PAUSE if body.autoPause else OnTimeout.KILL,
        keep_memory=body.autoPauseMemory is not False,
        auto_resume=resumes,
    )


def refuse_what_is_missing(body: NewSandbox) -> None:
    """Raises Unimplemented for what a later version brings."""
    if body.mcp:
        raise Unimplemented("mcp is not supported yet: there is no template 'mcp-gateway'")
    if body.iam and body.iam.get("tokens"):
        raise Unimplemented("iam tokens are not supported yet")
    if body.volumeMounts:
        raise Unimplemented("volumes are not supported yet")
