"""The stream of what happened to sandboxes."""

from __future__ import annotations

from atolld.core.event import Event
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.store import EventStore

MAX_LIMIT = 1000


class Events:
    """Reads events; they are written with the changes they tell of."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def list(
        self,
        project_id: ProjectId,
        sandbox_id: SandboxId | None = None,
        after_sequence: int = 0,
        limit: int = 100,
    ) -> list[Event]:
        """Events of a project, or of one of its sandboxes (ended ones too), oldest first.

        To follow the stream, ask again with the last sequence seen. `limit` is 1 to 1000.
        Raises InvalidArgument when a number is out of its range.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit is {limit}; it must be between 1 and {MAX_LIMIT}")
        if not 0 <= after_sequence < 2**63:
            raise InvalidArgument(f"after_sequence is {after_sequence}; it must be 0 or the sequence of an event")
        return await self._store.list(project_id, sandbox_id, after_sequence, limit)
