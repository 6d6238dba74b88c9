from __future__ import annotations

import pytest

from atolld.foundation.units import GIB, KIB, MIB, format_bytes, format_seconds


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (1536, "1.5 KiB"),
        (20 * MIB, "20 MiB"),
        (int(3.2 * GIB), "3.2 GiB"),
        (GIB, "1 GiB"),
        (5000 * GIB, "5000 GiB"),
        (MIB - 1, "1024 KiB"),
        (int(9.96 * MIB), "10 MiB"),
        (int(1.04 * MIB), "1 MiB"),
    ],
)
def test_format_bytes(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 ms"),
        (0.0082, "8.2 ms"),
        (0.34, "340 ms"),
        (0.9996, "1.0 s"),
        (2.1, "2.1 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (60, "1 min 0 s"),
        (185, "3 min 5 s"),
    ],
)
def test_format_seconds(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown
