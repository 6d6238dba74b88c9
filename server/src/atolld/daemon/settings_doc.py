"""docs/configuration.md, made from the settings: `python -m atolld.daemon.settings_doc docs/configuration.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from atolld.daemon.settings import DEFAULT_FILE, ENV_PREFIX, Settings

_HEAD = f"""# Configuration

Every setting has a default that serves; a daemon needs none of them. They are read in this order, the later ones win:

1. the file `{DEFAULT_FILE}`, or the one named by `{ENV_PREFIX}SETTINGS`: one JSON object, `{{"bind_port": 9000}}`;
2. environment variables: `{ENV_PREFIX}` and the name in capitals, `{ENV_PREFIX}BIND_PORT=9000`;
   lists are separated by commas;
3. options of the command line.

A value that cannot be, or an unknown name in the file, keeps the daemon from starting and is named.
Clients read `{ENV_PREFIX}API_URL` and `{ENV_PREFIX}API_KEY`, else `~/.config/atoll/config.json`,
which `atolld start` writes.

| Setting | Kind | Default | What it is |
|---|---|---|---|
"""

_NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}


def markdown() -> str:
    """The whole page."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = _default(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | {_kind(field.annotation)} | {default} | {field.description} |")
    return _HEAD + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not NoneType)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    return _NAMES.get(
        annotation.__name__, {"IPv4Address": "address", "IPv4Network": "range"}.get(annotation.__name__, "")
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
