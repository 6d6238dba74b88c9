"""CPU features: what programs look at, and nothing else."""

from __future__ import annotations

import pytest

from atolld.host.cpuflags import parse_cpu_flags, read_cpu_flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu sse4_2 avx2 avx512f md_clear ibrs retpoline\n", {"sse4_2", "avx2", "avx512f"}),
        ("processor: 0\nflags : aes\n\nprocessor: 1\nflags : aes sha_ni\n", {"aes"}),
        ("Features\t: fp asimd sve\n", {"fp", "asimd", "sve"}),
        ("vmx flags\t: ept\n", set()),
        ("", set()),
    ],
)
def test_features_are_read(text: str, expected: set[str]) -> None:
    assert parse_cpu_flags(text) == expected


def test_this_machine_has_some() -> None:
    assert read_cpu_flags()
