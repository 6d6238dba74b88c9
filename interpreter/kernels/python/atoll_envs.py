"""Environment variables of one execution: set before it, and put back after it."""

from __future__ import annotations

import os

_before: list[dict[str, str | None]] = []


def push(envs: dict[str, str]) -> None:
    """Set `envs` until `pop`."""
    _before.append({name: os.environ.get(name) for name in envs})
    os.environ.update(envs)


def pop() -> None:
    """Put back what was there before the last `push`."""
    for name, value in _before.pop().items() if _before else ():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def keep(envs: dict[str, str]) -> None:
    """Set `envs` for good."""
    os.environ.update(envs)
