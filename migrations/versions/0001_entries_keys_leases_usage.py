"""Entries, keys, leases, usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the first tables."""
    _create_entries()
    _create_keys()
    _create_leases()
    _create_usage()


def downgrade() -> None:
    """Remove them, and what was cached: before them there was nothing."""
    for table in ("gewe_cache_usage", "gewe_cache_leases", "gewe_cache_keys", "gewe_cache_entries"):
        op.drop_table(table)


def _create_entries() -> None:
    op.create_table(
        "gewe_cache_entries",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("scope", sa.String(256), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("aes_key", sa.String(32), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("md5", sa.String(32)),
        sa.Column("upload_began_at", _TIME, nullable=False),
        sa.Column("uploaded_at", _TIME, nullable=False),
        sa.Column("last_used_at", _TIME, nullable=False),
        sa.Column("forwards", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("retired_at", _TIME),
        sa.Column("retired_reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gewe_cache_entries")),
        sa.CheckConstraint("length(aes_key) = 32", name=op.f("ck_gewe_cache_entries_aes_key")),
        sa.CheckConstraint("length > 0", name=op.f("ck_gewe_cache_entries_length")),
        sa.CheckConstraint("width > 0 AND height > 0", name=op.f("ck_gewe_cache_entries_sides")),
        sa.CheckConstraint("length(md5) = 32", name=op.f("ck_gewe_cache_entries_md5")),
        sa.CheckConstraint(
            "(retired_at IS NULL) = (retired_reason IS NULL)", name=op.f("ck_gewe_cache_entries_retired")
        ),
        sqlite_autoincrement=True,
        comment="Cached images: CDN information, where it came from and when it was uploaded.",
    )
    for name in ("uploaded_at", "last_used_at", "forwards"):
        op.create_index(f"ix_gewe_cache_entries_{name}", "gewe_cache_entries", [name, "id"])
    op.create_index("ix_gewe_cache_entries_scope", "gewe_cache_entries", ["scope", "uploaded_at", "id"])
    for name in ("last_used_at", "forwards"):
        op.create_index(f"ix_gewe_cache_entries_scope_{name}", "gewe_cache_entries", ["scope", name, "id"])
    op.create_index("ix_gewe_cache_entries_md5", "gewe_cache_entries", ["md5"])
    retired = sa.text("retired_at IS NOT NULL")
    op.create_index(
        "ix_gewe_cache_entries_retired",
        "gewe_cache_entries",
        ["uploaded_at", "id"],
        sqlite_where=retired,
        postgresql_where=retired,
    )


def _create_keys() -> None:
    op.create_table(
        "gewe_cache_keys",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("entry_id", _ID, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_gewe_cache_keys")),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["gewe_cache_entries.id"], name=op.f("fk_gewe_cache_keys_entry_id"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("kind IN ('url', 'md5')", name=op.f("ck_gewe_cache_keys_kind")),
        comment="What leads to an entry: its normalised URL, the user's md5, GeWe's md5.",
    )
    op.create_index("ix_gewe_cache_keys_entry_id", "gewe_cache_keys", ["entry_id"])
    md5 = sa.text("kind = 'md5'")
    op.create_index("ix_gewe_cache_keys_md5", "gewe_cache_keys", ["value"], sqlite_where=md5, postgresql_where=md5)


def _create_leases() -> None:
    op.create_table(
        "gewe_cache_leases",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("ending", sa.String(16)),
        sa.Column("reason", sa.Text()),
        sa.Column("refusal", sa.Text()),
        sa.Column("last_upload_at", _TIME),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_gewe_cache_leases")),
        sa.CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name=op.f("ck_gewe_cache_leases_ended")),
        comment="The one upload that many sends wait for, by which other processes know of it.",
    )
    op.create_index("ix_gewe_cache_leases_expires_at", "gewe_cache_leases", ["expires_at"])


def _create_usage() -> None:
    counted = ("uploads", "forwards", "fall_backs", "refusals", "unknowns", "store_failures", "bytes_saved")
    timed = ("upload_seconds", "forward_seconds")
    op.create_table(
        "gewe_cache_usage",
        sa.Column("hour", _TIME, nullable=False),
        sa.Column("scope", sa.String(256), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in counted),
        *(sa.Column(name, sa.Float(53), nullable=False, server_default="0") for name in timed),
        sa.PrimaryKeyConstraint("hour", "scope", name=op.f("pk_gewe_cache_usage")),
        comment="What was sent in each hour (UTC) of each scope, and what it saved.",
    )
