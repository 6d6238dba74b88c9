from __future__ import annotations

import math

import pytest

from atolld.core import sandbox as core
from atolld.core.sandbox import Resources, SandboxSpec
from atolld.foundation.errors import InvalidArgument

BAD_RESOURCES = [
    ("cpu", 0.0),
    ("cpu", 0.09),
    ("cpu", -1.0),
    ("cpu", 256.5),
    ("cpu", math.nan),
    ("cpu", math.inf),
    ("cpu", -math.inf),
    ("memory_mib", 63),
    ("memory_mib", -512),
    ("memory_mib", 2**20 + 1),
    ("memory_mib", 10**30),
    ("disk_mib", 63),
    ("disk_mib", 2**20 + 1),
    ("pids_max", 15),
    ("pids_max", 1_000_001),
]


@pytest.mark.parametrize(("name", "value"), BAD_RESOURCES)
def test_bad_resources_are_named(name: str, value: float) -> None:
    values: dict[str, float] = {name: value}
    with pytest.raises(InvalidArgument, match=rf"^{name} is "):
        SandboxSpec(resources=Resources(**values)).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("resources", [Resources(), Resources(0.1, 64, 64, 16), Resources(256, 2**20, 2**20, 10**6)])
def test_good_resources(resources: Resources) -> None:
    SandboxSpec(resources=resources).check()


@pytest.mark.parametrize("timeout_s", [None, 1, core.MAX_TIMEOUT_S])
def test_good_timeouts(timeout_s: int | None) -> None:
    SandboxSpec(timeout_s=timeout_s).check()


@pytest.mark.parametrize("timeout_s", [0, -1, core.MAX_TIMEOUT_S + 1, 10**40])
def test_bad_timeouts(timeout_s: int) -> None:
    with pytest.raises(InvalidArgument, match="timeout_s"):
        SandboxSpec(timeout_s=timeout_s).check()


@pytest.mark.parametrize(
    "envs",
    [{}, {"A": ""}, {"_x1": "é=1\n"}, {"A" * 256: "x"}, {f"V{n}": "" for n in range(core.MAX_ENVS)}],
)
def test_good_envs(envs: dict[str, str]) -> None:
    core.check_envs(envs)


@pytest.mark.parametrize(
    ("envs", "said"),
    [
        ({"": "x"}, "not a variable name"),
        ({"1A": "x"}, "not a variable name"),
        ({"A-B": "x"}, "not a variable name"),
        ({"A=B": "x"}, "not a variable name"),
        ({"A\n": "x"}, "not a variable name"),
        ({"É": "x"}, "not a variable name"),
        ({"A" * 257: "x"}, "not a variable name"),
        ({"A": "x\0y"}, "NUL"),
        ({"A": "\ud800"}, "not valid text"),
        ({f"V{n}": "" for n in range(core.MAX_ENVS + 1)}, "257 variables"),
        ({"A": "x" * core.MAX_ENV_BYTES}, "bytes"),
        ({"A": "é" * (core.MAX_ENV_BYTES // 2)}, "bytes"),
    ],
)
def test_bad_envs(envs: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        core.check_envs(envs)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"k": ""}, {'"quoted".key': "v=1&b"}, {"k" * 128: "v" * 2048}, {str(n): "" for n in range(64)}],
)
def test_good_metadata(metadata: dict[str, str]) -> None:
    core.check_metadata(metadata)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"": "v"}, "0 characters"),
        ({"k" * 129: "v"}, "129 characters"),
        ({"k": "v" * 2049}, "2049 characters"),
        ({str(n): "" for n in range(65)}, "65 entries"),
        ({"k\0": "v"}, "NUL"),
        ({"k": "v\0"}, "NUL"),
        ({"k": "\udfff"}, "not valid text"),
        ({"\udfff": "v"}, "not valid text"),
    ],
)
def test_bad_metadata(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        core.check_metadata(metadata)
