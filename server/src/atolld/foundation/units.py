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
            value = round(count / size, 1)
            return f"{value:.0f} {name}" if value >= 10 or value == int(value) else f"{value:.1f} {name}"
    raise AssertionError("unreachable: every count below one KiB returned above")


def format_seconds(seconds: float) -> str:
    """`seconds` for people: `8.2 ms`, `340 ms`, `2.1 s`, `3 min 5 s`."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    # The bounds are where rounding would carry into the next unit.
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
