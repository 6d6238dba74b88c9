"""The whole network policy, the token of a sandbox's ports, and whether the agent's token is asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Move `internet` into the JSON column `network`; add `secure` and `traffic_token`."""
    # Column by column and not as a batch: a batch copies the table, and dropping the old one would take the metadata
    # of every sandbox with it (ON DELETE CASCADE).
    op.add_column("sandboxes", sa.Column("network", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("sandboxes", sa.Column("secure", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("sandboxes", sa.Column("traffic_token", sa.String(length=128), nullable=True))
    table = sa.table("sandboxes", sa.column("internet", sa.Boolean()), sa.column("network", sa.JSON()))
    for internet in (True, False):
        op.execute(table.update().where(table.c.internet.is_(internet)).values(network={"internet": internet}))
    op.drop_column("sandboxes", "internet")
