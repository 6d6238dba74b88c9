"""Templates of projects: their builds and tags, and which build sandboxes and snapshots began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add `build_id` to `sandboxes` and `snapshots`, room for longer names, and the tables of templates."""
    for table in ("sandboxes", "snapshots"):
        op.add_column(table, sa.Column("build_id", sa.String(length=36), nullable=True))
        op.create_index(f"ix_{table}_build_id", table, ["build_id"])
    if op.get_bind().dialect.name != "sqlite":
        # References of images were longer than this all along; SQLite never minded.
        for table, column in (("sandboxes", "template_name"), ("snapshots", "template_name"), ("pools", "template")):
            op.alter_column(table, column, type_=sa.String(length=600), existing_nullable=False)
    _templates()
    _builds()
    _tags()


def _templates() -> None:
    op.create_table(
        "templates",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_templates_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_templates"),
        sa.UniqueConstraint("project_id", "name", name="uq_templates_project_id_name"),
    )
    _index("templates", "project_id", "created_at", "id")
    _index("templates", "deleted_at")


def _builds() -> None:
    op.create_table(
        "template_builds",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("template_id", sa.String(length=20), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        sa.Column("cpu", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("disk_mib", sa.Integer(), nullable=False),
        sa.Column("pids_max", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("start_command", sa.Text(), nullable=True),
        sa.Column("ready_command", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("built", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("save_id", sa.String(length=20), nullable=True),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_template_builds_project_id_projects"),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name="fk_template_builds_template_id_templates"),
        sa.PrimaryKeyConstraint("id", name="pk_template_builds"),
    )
    _index("template_builds", "template_id", "created_at", "id")
    for column in ("state", "save_id", "deleted_at"):
        _index("template_builds", column)


def _tags() -> None:
    op.create_table(
        "template_tags",
        sa.Column("template_id", sa.String(length=20), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("assigned_at", sa.Double(), nullable=False),
        *_of_template_and_build("template_tags"),
        sa.PrimaryKeyConstraint("template_id", "tag", name="pk_template_tags"),
    )
    _index("template_tags", "build_id")
    op.create_table(
        "template_assignments",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("template_id", sa.String(length=20), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("assigned_at", sa.Double(), nullable=False),
        *_of_template_and_build("template_assignments"),
        sa.PrimaryKeyConstraint("sequence", name="pk_template_assignments"),
        sqlite_autoincrement=True,
    )
    _index("template_assignments", "template_id", "tag", "sequence")
    _index("template_assignments", "build_id")


def _of_template_and_build(table: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name=f"fk_{table}_template_id_templates"),
        sa.ForeignKeyConstraint(["build_id"], ["template_builds.id"], name=f"fk_{table}_build_id_template_builds"),
    ]


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
