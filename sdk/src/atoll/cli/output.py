"""How results are printed: JSON for programs, tables for people, colours on terminals only."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click

# What is printed may have been written by a sandbox: control characters would let it move the cursor or retitle the
# window of whoever looks.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(value: object) -> None:
    """One JSON value, indented, times as RFC 3339."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their longest cell; only headings when there are no rows."""
    cells = [[clean(_text(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(headings), *cells]) for column in range(len(headings))]
    click.echo(click.style(_line(headings, widths), bold=True))
    for row in cells:
        click.echo(_line(row, widths))


def print_fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values under each other."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(click.style(f"{name.ljust(width)}  ", bold=True) + clean(_text(value)))


def clean(text: str) -> str:
    """The text without control characters, newlines kept."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def note(message: str) -> None:
    """A line for people, on standard error, so that it never mixes with results."""
    click.echo(click.style(clean(message), dim=True), err=True)


def age(moment: datetime | None) -> str:
    """How long ago, or in how long: `12s`, `3m`, `2h`, `5d`; `-` for None."""
    if moment is None:
        return "-"
    seconds = abs((datetime.now(timezone.utc) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def size(number_of_bytes: float) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    value = float(number_of_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
    return str(value)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
