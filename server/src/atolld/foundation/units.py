"""Byte sizes, and how they are shown."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def format_bytes(count: int) -> str:
    """`count` bytes for people: `512 B`, `1.5 KiB`, `20 MiB`, `3.2 GiB`."""
    if count < KIB:
        return f"{count} B"
    for size, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= size:
            value = count / size
            return f"{value:.0f} {name}" if value >= 10 or value == int(value) else f"{value:.1f} {name}"
    raise AssertionError("unreachable: every count below one KiB returned above")


def format_seconds(seconds: float) -> str:
    """`seconds` for people: `8.2 ms`, `340 ms`, `2.1 s`, `3 min 5 s`."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
