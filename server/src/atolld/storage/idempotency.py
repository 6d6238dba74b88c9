"""Idempotency keys: which sandbox a caller's key has made, kept beside the sandbox in the same transaction."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select

from atolld.foundation.errors import Conflict
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.schema import idempotency
from atolld.storage.store import Claim

# Built once: building a statement costs as much as running it.
_MINE = (idempotency.c.project_id == bindparam("of_project")) & (idempotency.c.key == bindparam("of_key"))
_FIND = select(idempotency).where(_MINE)
_DELETE = delete(idempotency).where(_MINE)
_INSERT = insert(idempotency)


def claim_or_replay(
    connection: Connection, project_id: ProjectId, claim: Claim, sandbox_id: SandboxId, now: float
) -> SandboxId | None:
    """Record that `claim` makes `sandbox_id`; or the id it has made already, and nothing is written.

    Raises Conflict when the key was used with another body.
    """
    mine = {"of_project": project_id, "of_key": claim.key}
    earlier = connection.execute(_FIND, mine).first()
    if earlier is not None and earlier.created_at > claim.valid_after:
        if earlier.body_sha256 != claim.body_sha256:
            raise Conflict(
                f"the idempotency key {claim.key[:80]!r} was used before for a different request; "
                "use a new key for a new request"
            )
        return SandboxId(earlier.sandbox_id)
    if earlier is not None:
        connection.execute(_DELETE, mine)
    connection.execute(
        _INSERT,
        {
            "project_id": project_id,
            "key": claim.key,
            "body_sha256": claim.body_sha256,
            "sandbox_id": sandbox_id,
            "created_at": now,
        },
    )
    return None


def free_claims(connection: Connection, sandbox_id: SandboxId) -> None:
    """Forget the key that made `sandbox_id`: the create failed and may be tried again with it."""
    connection.execute(delete(idempotency).where(idempotency.c.sandbox_id == sandbox_id))


def purge_claims(connection: Connection, before: float) -> None:
    """Forget keys used before `before`."""
    connection.execute(delete(idempotency).where(idempotency.c.created_at < before))
