"""What the installed Python client offers in public, found by looking at it."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from e2e.e2b.runners.harness import Flavour

# How a row of the table calls the class, the module it is in, and the name there. {f}: sync or async, {A}: "" or Async.
CLASSES = (
    ("Sandbox", "e2b", "{A}Sandbox"),
    ("commands", "e2b.sandbox_{f}.commands.command", "Commands"),
    ("CommandHandle", "e2b", "{A}CommandHandle"),
    ("CommandInputHandle", "e2b.sandbox_{f}.commands.command_input_handle", "{A}CommandInputHandle"),
    ("pty", "e2b.sandbox_{f}.commands.pty", "Pty"),
    ("files", "e2b.sandbox_{f}.filesystem.filesystem", "Filesystem"),
    ("WatchHandle", "e2b", "{A}WatchHandle"),
    ("git", "e2b.sandbox_{f}.git", "Git"),
    ("SandboxPaginator", "e2b.sandbox_{f}.paginator", "{A}SandboxPaginator"),
    ("SnapshotPaginator", "e2b.sandbox_{f}.paginator", "{A}SnapshotPaginator"),
    ("Template", "e2b", "{A}Template"),
    ("TemplateBuilder", "e2b.template.main", "TemplateBuilder"),
    ("Volume", "e2b", "{A}Volume"),
    ("Secret", "e2b", "{A}Secret"),
    ("E2B", "e2b", "E2B"),
)


def find(flavour: Flavour, row: str) -> Any:
    """The class that rows of the table call `row`, or None where this release has none."""
    for name, module, inner in CLASSES:
        if name == row:
            prefix = "Async" if flavour == "async" else ""
            try:
                holder = importlib.import_module(module.format(f=flavour))
            except ModuleNotFoundError:
                return None
            return getattr(holder, inner.format(A=prefix), None)
    raise KeyError(row)


def methods(flavour: Flavour) -> set[str]:
    """Every public method, as "files.read". Those of the builder are the client's own work and are one row."""
    found: set[str] = set()
    for row, _, _ in CLASSES:
        kind = find(flavour, row)
        if kind is None:
            continue
        if row == "TemplateBuilder":
            found.add("TemplateBuilder")
        elif row == "E2B":
            found.add("E2B")
        else:
            # The starting points of a builder (from_image and so on) are the builder's, wherever they are written.
            found |= {f"{row}.{name}" for name in public(kind) if not (row == "Template" and is_builder(name))}
    return found


def public(kind: type) -> set[str]:
    return {
        name
        for name in dir(kind)
        if not name.startswith("_") and not isinstance(inspect.getattr_static(kind, name), property)
        if callable(getattr(kind, name))
    }


def is_builder(name: str) -> bool:
    return name.startswith("from_") or name == "skip_cache"
