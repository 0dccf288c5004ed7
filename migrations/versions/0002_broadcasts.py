"""Broadcasts, their deliveries, and the lanes they hold."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of broadcasts."""
    _create_broadcasts()
    _create_deliveries()
    _create_lanes()


def downgrade() -> None:
    """Remove them: who got what is forgotten, and a broadcast under way cannot be resumed."""
    for table in ("gewe_cache_lanes", "gewe_cache_deliveries", "gewe_cache_broadcasts"):
        op.drop_table(table)


def _create_broadcasts() -> None:
    op.create_table(
        "gewe_cache_broadcasts",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(256), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("url_digest", sa.LargeBinary(32)),
        sa.Column("md5", sa.String(32)),
        sa.Column("pace", sa.Text(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gewe_cache_broadcasts")),
        sa.CheckConstraint("state IN ('preparing', 'open', 'cancelled')", name=op.f("ck_gewe_cache_broadcasts_state")),
        sa.CheckConstraint("url IS NOT NULL OR md5 IS NOT NULL", name=op.f("ck_gewe_cache_broadcasts_image")),
        sa.CheckConstraint("(url IS NULL) = (url_digest IS NULL)", name=op.f("ck_gewe_cache_broadcasts_url")),
        sqlite_autoincrement=True,
        comment="One image to many recipients: what is sent, in which scope and at which pace.",
    )
    for name in ("url_digest", "md5"):
        op.create_index(f"ix_gewe_cache_broadcasts_{name}", "gewe_cache_broadcasts", [name])


def _create_deliveries() -> None:
    op.create_table(
        "gewe_cache_deliveries",
        sa.Column("broadcast_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.String(256), nullable=False),
        sa.Column("to_wxid", sa.String(256), nullable=False),
        sa.Column("is_group", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False, server_default="pending"),
        sa.Column("worker", sa.String(64)),
        sa.Column("started_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("route", sa.String(8)),
        sa.Column("new_msg_id", sa.String(20)),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("broadcast_id", "number", name=op.f("pk_gewe_cache_deliveries")),
        sa.ForeignKeyConstraint(
            ["broadcast_id"],
            ["gewe_cache_broadcasts.id"],
            name=op.f("fk_gewe_cache_deliveries_broadcast_id"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'refused', 'unknown')",
            name=op.f("ck_gewe_cache_deliveries_state"),
        ),
        sa.CheckConstraint("state = 'pending' OR worker IS NOT NULL", name=op.f("ck_gewe_cache_deliveries_worker")),
        comment="The ledger: one recipient of a broadcast, written before its send starts and after it ends.",
    )
    op.create_index(
        "ix_gewe_cache_deliveries_recipient",
        "gewe_cache_deliveries",
        ["broadcast_id", "to_wxid", "app_id"],
        unique=True,
    )
    group = sa.text("is_group")
    op.create_index(
        "ix_gewe_cache_deliveries_group",
        "gewe_cache_deliveries",
        ["broadcast_id", "to_wxid"],
        unique=True,
        sqlite_where=group,
        postgresql_where=group,
    )
    op.create_index(
        "ix_gewe_cache_deliveries_state", "gewe_cache_deliveries", ["broadcast_id", "state", "app_id", "number"]
    )


def _create_lanes() -> None:
    op.create_table(
        "gewe_cache_lanes",
        sa.Column("host", sa.String(256), nullable=False),
        sa.Column("app_id", sa.String(256), nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("expires_at", _TIME),
        sa.Column("ready_at", _TIME, nullable=False),
        sa.Column("recent", sa.Text(), nullable=False, server_default="[]"),
        sa.PrimaryKeyConstraint("host", "app_id", name=op.f("pk_gewe_cache_lanes")),
        sa.CheckConstraint("(worker IS NULL) = (expires_at IS NULL)", name=op.f("ck_gewe_cache_lanes_held")),
        comment="A device's queue: which worker of a broadcast holds it, until when, and when it may send next.",
    )
    held = sa.text("worker IS NOT NULL")
    op.create_index(
        "ix_gewe_cache_lanes_worker", "gewe_cache_lanes", ["worker"], sqlite_where=held, postgresql_where=held
    )
