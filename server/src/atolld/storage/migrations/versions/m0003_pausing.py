"""Pausing, snapshots and warm pools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what pausing needs to `sandboxes`, two limits to `projects`, and the tables of snapshots and pools."""
    op.add_column("projects", sa.Column("max_snapshots", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("max_saved_mib", sa.Integer(), nullable=True))
    # Column by column and not as a batch: see 0002.
    op.add_column("sandboxes", sa.Column("lifecycle", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("sandboxes", sa.Column("save_id", sa.String(length=20), nullable=True))
    op.add_column("sandboxes", sa.Column("pending_save_id", sa.String(length=20), nullable=True))
    op.add_column("sandboxes", sa.Column("head_id", sa.String(length=20), nullable=True))
    op.add_column("sandboxes", sa.Column("paused_at", sa.Double(), nullable=True))
    op.create_index("ix_sandboxes_save_id", "sandboxes", ["save_id"])
    op.create_index("ix_sandboxes_head_id", "sandboxes", ["head_id"])
    _snapshots()
    _pools()


def _snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("sandbox_id", sa.String(length=20), nullable=False),
        sa.Column("parent_id", sa.String(length=20), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=True),
        sa.Column("template_id", sa.String(length=64), nullable=False),
        sa.Column("template_name", sa.String(length=64), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        *_resources(),
        sa.Column("agent_token", sa.String(length=128), nullable=False),
        sa.Column("secure", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("engine", sa.String(length=255), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stopped_s", sa.Double(), nullable=True),
        sa.Column("layers", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_snapshots_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
    )
    for columns in (
        ["project_id", "created_at", "id"],
        ["project_id", "name"],
        ["sandbox_id"],
        ["parent_id"],
        ["state"],
    ):
        op.create_index(f"ix_snapshots_{'_'.join(columns)}", "snapshots", columns)


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("template", sa.String(length=128), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        *_resources(),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_pools_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_pools"),
        sa.UniqueConstraint(
            "project_id", "template", "runtime", "cpu", "memory_mib", "disk_mib", "pids_max", name="uq_pools_what"
        ),
    )


def _resources() -> list[sa.Column[object]]:
    return [
        sa.Column("cpu", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("disk_mib", sa.Integer(), nullable=False),
        sa.Column("pids_max", sa.Integer(), nullable=False),
    ]
