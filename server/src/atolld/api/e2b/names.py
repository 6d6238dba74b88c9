"""How E2B's clients name snapshots: `<id>:default`, or `<project>/<name>:<tag>` for one with a name. Pure.

Here a name's tag `default` is not written down, and the project goes without saying.
"""

from __future__ import annotations

from atolld.core.snapshot import Snapshot, check_snapshot_name
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import is_snapshot_id

DEFAULT_TAG = "default"


def full_name(snapshot: Snapshot, namespace: str) -> str | None:
    """The name of `snapshot` as its clients see it; None when it has none. `namespace`: its project, in lower case."""
    if snapshot.name is None:
        return None
    name, _, tag = snapshot.name.partition(":")
    return f"{namespace}/{name}:{tag or DEFAULT_TAG}"


def candidates(text: str, namespace: str) -> list[str]:
    """What `text` may be called here, the likeliest first: ids and names, with or without the project and the tag."""
    wanted, _, tag = text.strip().lower().partition(":")
    suffix = "" if tag in ("", DEFAULT_TAG) else f":{tag}"
    if is_snapshot_id(wanted):
        return [] if suffix else [wanted]
    space, _, rest = wanted.partition("/")
    names = [rest, wanted] if space == namespace else [wanted]
    return [name + suffix for name in names if name]


def new_name(text: str, namespace: str) -> str:
    """`text` as the name of a new snapshot. Raises InvalidArgument for a bad one or the name of another project."""
    name, _, tag = check_snapshot_name(text.strip().lower()).partition(":")
    space, slash, rest = name.partition("/")
    if slash and space != namespace:
        raise InvalidArgument(f"the name {text[:80]!r} is in the namespace {space!r}; yours is {namespace!r}")
    return (rest if slash else name) + ("" if tag in ("", DEFAULT_TAG) else f":{tag}")
