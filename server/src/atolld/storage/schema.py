"""The tables as the code sees them; `migrations/` is what makes them, and a test holds the two together.

Only portable types and constraints: the same definitions serve SQLite and PostgreSQL. Times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

# Named, so that later migrations can drop what earlier ones made, on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# The name of a template, `<project>/<name>`, or the reference of an image. SQLite looks at no length, and cannot change
# a column without making its table anew.
_TEMPLATE_NAME = String(600).with_variant(String(64), "sqlite")
_POOL_TEMPLATE = String(600).with_variant(String(128), "sqlite")

projects = Table(
    "projects",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("max_sandboxes", Integer),
    Column("max_cpu", Double),
    Column("max_memory_mib", Integer),
    Column("max_snapshots", Integer),
    Column("max_saved_mib", Integer),
    Column("created_at", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Index(None, "project_id"),
)

# `listed_at` orders lists: the start, and until then the creation. `metered_until`: usage is recorded up to there.
# `seen_at`: the last time the daemon knew it running. The caller's environment variables are not stored: they may be
# secrets, and the agent that was given them keeps them. No foreign keys to `snapshots`: either goes before the other.
sandboxes = Table(
    "sandboxes",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("template_id", String(64), nullable=False),
    Column("template_name", _TEMPLATE_NAME, nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("cpu", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_mib", Integer, nullable=False),
    Column("pids_max", Integer, nullable=False),
    Column("timeout_s", Integer),
    Column("metadata", JSON, nullable=False),
    Column("network", JSON, nullable=False, server_default="{}"),
    Column("secure", Boolean, nullable=False, server_default=true()),
    Column("state", String(16), nullable=False),
    Column("agent_token", String(128), nullable=False),
    Column("traffic_token", String(128)),
    Column("address", String(64)),
    Column("handle", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("listed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("expires_at", Double),
    Column("metered_until", Double),
    Column("seen_at", Double),
    Column("ended_at", Double),
    Column("end_reason", String(32)),
    Column("end_message", Text),
    Column("lifecycle", JSON, nullable=False, server_default="{}"),
    Column("save_id", String(20)),
    Column("pending_save_id", String(20)),
    Column("head_id", String(20)),
    Column("paused_at", Double),
    Column("build_id", String(36)),
    Index(None, "project_id", "state", "listed_at", "id"),
    Index(None, "project_id", "listed_at", "id"),
    Index(None, "state"),
    Index(None, "save_id"),
    Index(None, "head_id"),
    Index(None, "build_id"),
)

sandbox_metadata = Table(
    "sandbox_metadata",
    metadata,
    Column("sandbox_id", String(20), ForeignKey("sandboxes.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)

# What `engine` and the columns behind it say is known once the save is whole, and forgotten when its files are gone.
# `sandbox_id` and `parent_id` may name what is there no more.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("sandbox_id", String(20), nullable=False),
    Column("parent_id", String(20)),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(128)),
    Column("template_id", String(64), nullable=False),
    Column("template_name", _TEMPLATE_NAME, nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("cpu", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_mib", Integer, nullable=False),
    Column("pids_max", Integer, nullable=False),
    Column("agent_token", String(128), nullable=False),
    Column("secure", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("engine", String(255)),
    Column("memory_bytes", BigInteger),
    Column("disk_bytes", BigInteger),
    Column("stopped_s", Double),
    Column("layers", JSON(none_as_null=True)),
    Column("build_id", String(36)),
    Index(None, "project_id", "created_at", "id"),
    Index(None, "project_id", "name"),
    Index(None, "sandbox_id"),
    Index(None, "parent_id"),
    Index(None, "state"),
    Index(None, "build_id"),
)

# A deleted one has no name any more, and stays only until nothing needs its builds.
templates = Table(
    "templates",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("name", String(64)),
    Column("public", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("deleted_at", Double),
    UniqueConstraint("project_id", "name"),
    Index(None, "project_id", "created_at", "id"),
    Index(None, "deleted_at"),
)

# `built` is known once it is ready, `failure` once it has failed. `save_id`: no foreign key, as of `sandboxes`.
template_builds = Table(
    "template_builds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("template_id", String(20), ForeignKey("templates.id"), nullable=False),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("cpu", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_mib", Integer, nullable=False),
    Column("pids_max", Integer, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("start_command", Text),
    Column("ready_command", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("built", JSON(none_as_null=True)),
    Column("save_id", String(20)),
    Column("failure", JSON(none_as_null=True)),
    Column("deleted_at", Double),
    Index(None, "template_id", "created_at", "id"),
    Index(None, "state"),
    Index(None, "save_id"),
    Index(None, "deleted_at"),
)

# Which build a tag means now.
template_tags = Table(
    "template_tags",
    metadata,
    Column("template_id", String(20), ForeignKey("templates.id"), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("build_id", String(36), ForeignKey("template_builds.id"), nullable=False),
    Column("assigned_at", Double, nullable=False),
    Index(None, "build_id"),
)

# Every time a tag was given to a build; the newest one of a tag that is still there is what `template_tags` says.
template_assignments = Table(
    "template_assignments",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("template_id", String(20), ForeignKey("templates.id"), nullable=False),
    Column("tag", String(128), nullable=False),
    Column("build_id", String(36), ForeignKey("template_builds.id"), nullable=False),
    Column("assigned_at", Double, nullable=False),
    Index(None, "template_id", "tag", "sequence"),
    Index(None, "build_id"),
    sqlite_autoincrement=True,
)

# `template` may name a snapshot or an image, as a sandbox may be asked for.
pools = Table(
    "pools",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("template", _POOL_TEMPLATE, nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("cpu", Double, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_mib", Integer, nullable=False),
    Column("pids_max", Integer, nullable=False),
    Column("ready", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    # Named by hand: the convention's name would be longer than PostgreSQL keeps.
    UniqueConstraint(
        "project_id", "template", "runtime", "cpu", "memory_mib", "disk_mib", "pids_max", name="uq_pools_what"
    ),
)

# AUTOINCREMENT: a sequence number is never given twice, not even after the newest events were deleted.
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("type", String(64), nullable=False),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("sandbox_id", String(20), nullable=False),
    Column("at", Double, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "project_id", "sequence"),
    Index(None, "sandbox_id", "sequence"),
    sqlite_autoincrement=True,
)

usage = Table(
    "usage",
    metadata,
    Column("sandbox_id", String(20), primary_key=True),
    Column("since", Double, primary_key=True),
    Column("until", Double, nullable=False),
    Column("project_id", String(36), ForeignKey("projects.id"), nullable=False),
    Column("vcpu_s", Double, nullable=False),
    Column("memory_gib_s", Double, nullable=False),
    Index(None, "project_id", "until"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", String(36), ForeignKey("projects.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("sandbox_id", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "sandbox_id"),
    Index(None, "created_at"),
)
