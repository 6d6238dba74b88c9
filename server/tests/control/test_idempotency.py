from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.control.idempotency import KEPT_S, body_digest, make_claim
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy
from atolld.core.sandbox import Resources, SandboxSpec
from atolld.foundation.errors import InvalidArgument

SPEC = SandboxSpec(envs={"A": "1", "B": "2"}, metadata={"k": "v"})


def test_the_same_request_has_the_same_digest() -> None:
    assert body_digest(SPEC) == body_digest(replace(SPEC, envs={"B": "2", "A": "1"}))


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, template="other"),
        replace(SPEC, runtime="container"),
        replace(SPEC, resources=Resources(cpu=2)),
        replace(SPEC, resources=Resources(memory_mib=1024)),
        replace(SPEC, resources=Resources(disk_mib=1024)),
        replace(SPEC, resources=Resources(pids_max=64)),
        replace(SPEC, timeout_s=None),
        replace(SPEC, envs={"A": "1", "B": "3"}),
        replace(SPEC, metadata={"k": "é"}),
        replace(SPEC, network=NetworkPolicy(internet=False)),
        replace(SPEC, network=NetworkPolicy(allow_out=("1.1.1.1/32",))),
        replace(SPEC, network=NetworkPolicy(deny_out=("1.1.1.1/32",))),
        replace(SPEC, network=NetworkPolicy(allow_public_traffic=False)),
        replace(SPEC, network=NetworkPolicy(mask_request_host="localhost")),
        replace(SPEC, secure=False),
        replace(SPEC, envs={}, metadata={}),
    ],
)
def test_any_other_request_has_another(other: SandboxSpec) -> None:
    assert body_digest(other) != body_digest(SPEC)


def test_every_field_of_a_spec_counts() -> None:
    # A new field must be added to the digest, or two different requests would count as one.
    assert set(SandboxSpec.__dataclass_fields__) == {
        "template",
        "runtime",
        "resources",
        "timeout_s",
        "envs",
        "metadata",
        "network",
        "secure",
        "lifecycle",
    }
    assert set(LifecyclePolicy.__dataclass_fields__) == set(LifecyclePolicy().to_json())
    assert set(Resources.__dataclass_fields__) == {"cpu", "memory_mib", "disk_mib", "pids_max"}
    assert set(NetworkPolicy.__dataclass_fields__) == {
        "internet",
        "allow_out",
        "deny_out",
        "allow_public_traffic",
        "mask_request_host",
        "private",
    }


@pytest.mark.parametrize("key", ["a", "x" * 255, "8b1c7c0e-1f1e-4a6c-9d4e-000000000000", "a b"])
def test_keys(key: str) -> None:
    claim = make_claim(key, SPEC, 1_000_000.0)
    assert claim is not None
    assert (claim.key, claim.valid_after) == (key, 1_000_000.0 - KEPT_S)


def test_no_key_no_claim() -> None:
    assert make_claim(None, SPEC, 0.0) is None


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\n", "\x00"])
def test_bad_keys(key: str) -> None:
    with pytest.raises(InvalidArgument, match="idempotency key"):
        make_claim(key, SPEC, 0.0)
