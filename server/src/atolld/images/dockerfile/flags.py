"""Flags of instructions: `--chown=a:b`, `--link`, and comma-separated fields like those of `--mount`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from atolld.images.dockerfile.failing import quoted

_TRUE = frozenset({"", "1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


def read_flags(
    flags: Collection[str], known: Collection[str], repeatable: Collection[str] = ()
) -> dict[str, list[str]]:
    """Name, without dashes, to its values; a flag without `=` has the value `""`.

    Raises ValueError on one that is not `known`, or that is given twice and not `repeatable`.
    """
    found: dict[str, list[str]] = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        if name not in known:
            there = ", ".join(f"--{one}" for one in sorted(known)) or "none"
            raise ValueError(f"it has no flag {quoted(f'--{name}')}: there is {there}")
        if name in found and name not in repeatable:
            raise ValueError(f"the flag --{name} is given twice")
        found.setdefault(name, []).append(value)
    return found


def read_fields(text: str) -> dict[str, str]:
    """The fields of `a=b,c,d=e`, where those without `=` are `""`. Quotes around one hold commas, as in CSV.

    Raises ValueError on a quote without end, or a field that is given twice.
    """
    found: dict[str, str] = {}
    for part in _split(text):
        name, _, value = part.partition("=")
        name = name.strip().lower()
        if name in found:
            raise ValueError(f"the field {quoted(name)} is given twice")
        found[name] = value
    return found


def is_true(value: str, what: str) -> bool:
    """The value of a switch; `""` is true. Raises ValueError."""
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"{what} is 'true' or 'false', not {quoted(value)}")


def first(flags: Mapping[str, list[str]], name: str) -> str | None:
    """The value of a flag, None when it is not given. Raises ValueError when it is empty."""
    if name not in flags:
        return None
    value = flags[name][0]
    if not value:
        raise ValueError(f"the flag --{name} has no value: write --{name}=...")
    return value


def _split(text: str) -> list[str]:
    parts, part, quoting = [], "", False
    for one in text:
        if one == '"':
            quoting = not quoting
        elif one == "," and not quoting:
            parts.append(part)
            part = ""
        else:
            part += one
    if quoting:
        raise ValueError("a quote in it has no end")
    return [*parts, part]
