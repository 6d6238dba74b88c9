"""Identifiers: how they are made and what they may look like.

A sandbox id is 20 characters of `[0-9a-z]`, starting with a letter: it fits a DNS label together with a port
(`49983-<id>`), a cgroup name, a directory name and a container id, with 100 bits of randomness.
"""

from __future__ import annotations

import re
import secrets
import uuid
from typing import NewType

from atolld.foundation.errors import InvalidArgument

SandboxId = NewType("SandboxId", str)
TemplateId = NewType("TemplateId", str)
ProjectId = NewType("ProjectId", str)
KeyId = NewType("KeyId", str)
EventId = NewType("EventId", str)
RequestId = NewType("RequestId", str)
SnapshotId = NewType("SnapshotId", str)
PoolId = NewType("PoolId", str)
BuildId = NewType("BuildId", str)

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID = re.compile(r"[a-z][0-9a-z]{19}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_sandbox_id() -> SandboxId:
    """A new random sandbox id, always starting with `i`."""
    return SandboxId("i" + _random(19))


def new_snapshot_id() -> SnapshotId:
    """A new random snapshot id, always starting with `s`: it is told from a sandbox's by its first letter."""
    return SnapshotId("s" + _random(19))


def new_pool_id() -> PoolId:
    """A new random id of a warm pool, always starting with `p`."""
    return PoolId("p" + _random(19))


def new_template_id() -> TemplateId:
    """A new random id of a template that a project owns, always starting with `t`."""
    return TemplateId("t" + _random(19))


def new_build_id() -> BuildId:
    """A new random id of a build (a UUID, the form vendors' clients expect)."""
    return BuildId(str(uuid.uuid4()))


def new_project_id() -> ProjectId:
    """A new random project id (a UUID, the form vendors' clients expect of a team id)."""
    return ProjectId(str(uuid.uuid4()))


def new_key_id() -> KeyId:
    """A new random id of an API key; it names the key and is no secret."""
    return KeyId(str(uuid.uuid4()))


def new_event_id() -> EventId:
    """A new random event id."""
    return EventId(str(uuid.uuid4()))


def new_request_id() -> RequestId:
    """A new random request id, for logs and error bodies."""
    return RequestId("req_" + _random(16))


def parse_sandbox_id(text: str) -> SandboxId:
    """`text` as a sandbox id.

    Raises InvalidArgument when it does not have the form, so that no other text ever reaches a path or a command.
    """
    if not _ID.fullmatch(text):
        raise InvalidArgument(f"{text[:80]!r} is not a sandbox id: 20 characters of a-z and 0-9 are expected")
    return SandboxId(text)


def parse_snapshot_id(text: str) -> SnapshotId:
    """`text` as a snapshot id. Raises InvalidArgument when it does not have the form."""
    if not is_snapshot_id(text):
        raise InvalidArgument(f"{text[:80]!r} is not a snapshot id: 's' and 19 characters of a-z and 0-9 are expected")
    return SnapshotId(text)


def is_snapshot_id(text: str) -> bool:
    """Whether `text` has the form of a snapshot id."""
    return text.startswith("s") and _ID.fullmatch(text) is not None


def is_template_id(text: str) -> bool:
    """Whether `text` has the form of the id of a template that a project owns."""
    return text.startswith("t") and _ID.fullmatch(text) is not None


def is_build_id(text: str) -> bool:
    """Whether `text` has the form of a build's id, in lower case."""
    return _UUID.fullmatch(text) is not None


def parse_name(text: str, what: str) -> str:
    """`text` as a name of `what` (template, pool, project, ...).

    1 to 64 characters of `a-z 0-9 . _ -`, beginning and ending with a letter or digit, without `..`.
    Raises InvalidArgument otherwise.
    """
    if not _NAME.fullmatch(text) or ".." in text:
        raise InvalidArgument(
            f"{text[:80]!r} is not a valid {what} name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "beginning and ending with a letter or digit"
        )
    return text
