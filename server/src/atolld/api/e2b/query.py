"""Values in E2B's paths and query strings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import SandboxId, parse_sandbox_id

MAX_PAIRS = 64
MAX_IDS = 100

# One that is frozen answers as soon as it is asked; one that is being resumed does not yet.
RUNNING_STATES = frozenset({SandboxState.RUNNING, SandboxState.FROZEN})
PAUSED_STATES = frozenset({SandboxState.PAUSING, SandboxState.PAUSED, SandboxState.RESUMING})

_STATES = {"running": RUNNING_STATES, "paused": PAUSED_STATES}
_SHORT_ID = re.compile(r"[a-z0-9]{1,64}")


def sandbox_id(text: str) -> SandboxId:
    """`text` as a sandbox id; the client id that old SDKs append (`<id>-<client>`) is left out.

    Raises InvalidArgument when it cannot be one of E2B's, NotFound when it cannot be one of ours.
    """
    short = text.partition("-")[0]
    if not _SHORT_ID.fullmatch(short):
        raise InvalidArgument("Invalid sandbox ID")
    try:
        return parse_sandbox_id(short)
    except InvalidArgument:
        raise NotFound(f"there is no sandbox {short}") from None


def sandbox_ids(text: str) -> list[SandboxId]:
    """The comma-separated ids of `text`; those that cannot be ours are left out.

    Raises InvalidArgument for none, over 100, or one that cannot be an id at all.
    """
    parts = [part for part in text.split(",") if part]
    if not 1 <= len(parts) <= MAX_IDS:
        raise InvalidArgument(f"sandbox_ids has {len(parts)} ids; 1 to {MAX_IDS} are allowed")
    found = []
    for part in parts:
        try:
            found.append(sandbox_id(part))
        except NotFound:
            continue
    return found


def metadata_filter(text: str | None) -> dict[str, str]:
    """Pairs of a form whose keys and values are percent-encoded once more, as E2B's SDKs send them.

    Raises InvalidArgument when it has another form or over 64 pairs.
    """
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_PAIRS)
    except ValueError:
        raise InvalidArgument(
            f"metadata is {text[:80]!r}: pairs 'key=value' joined by '&', at most {MAX_PAIRS}, are expected"
        ) from None
    return {unquote(key): unquote(value) for key, value in pairs}


def states_of(states: Sequence[str]) -> frozenset[SandboxState]:
    """What `state` asks for, given once with commas or several times; none means both.

    Raises InvalidArgument for a state that is neither `running` nor `paused`.
    """
    wanted = [one for part in states for one in part.split(",") if one]
    for one in wanted:
        if one not in _STATES:
            raise InvalidArgument(f"state is {one[:40]!r}; running and paused are known")
    return frozenset().union(*(_STATES[one] for one in wanted or _STATES))
