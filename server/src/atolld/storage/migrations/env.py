"""Alembic's entry: runs migrations on the connection that `atolld.storage.migrate` hands in."""

from __future__ import annotations

from alembic import context

from atolld.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite alters tables only by copying them.
    render_as_batch=True,
)
# The caller's transaction is the migration's: it is committed with everything else or not at all.
context.run_migrations()
