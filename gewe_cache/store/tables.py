"""The tables, in the design's words. ``migrations/`` makes them; a test holds that the two agree.

Their partial indexes are in ``partial_indexes.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
)

from gewe_cache.text import mask_key

if TYPE_CHECKING:
    from sqlalchemy import Dialect

VERSION_TABLE = "gewe_cache_schema"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python; ``timestamptz`` on PostgreSQL, sortable text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse naive times, which would be read back as another moment."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "a naive datetime cannot be stored"
            raise ValueError(msg)
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002
        """Give UTC back: SQLite keeps no zone, PostgreSQL answers in the session's."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class AesKey(TypeDecorator[str]):
    """An ``aes_key`` that shows itself masked: SQLAlchemy logs whole rows at DEBUG, hide_parameters or not."""

    impl = String(32)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ANN401, ARG002
        """Give a string whose repr is masked."""
        return _Masked(value) if isinstance(value, str) else value


class _Masked(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return repr(mask_key(self))


_Id = BigInteger().with_variant(Integer, "sqlite")

entries = Table(
    "gewe_cache_entries",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("scope", String(256), nullable=False),
    Column("url", Text),
    Column("aes_key", AesKey, nullable=False),
    Column("file_id", Text, nullable=False),
    Column("length", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("md5", String(32)),
    Column("upload_began_at", UtcDateTime, nullable=False),
    Column("uploaded_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("forwards", BigInteger, nullable=False, server_default="0"),
    Column("retired_at", UtcDateTime),
    Column("retired_reason", Text),
    CheckConstraint("length(aes_key) = 32", name="aes_key"),
    CheckConstraint("length > 0", name="length"),
    CheckConstraint("width > 0 AND height > 0", name="sides"),
    CheckConstraint("length(md5) = 32", name="md5"),
    CheckConstraint("(retired_at IS NULL) = (retired_reason IS NULL)", name="retired"),
    Index("ix_gewe_cache_entries_uploaded_at", "uploaded_at", "id"),
    Index("ix_gewe_cache_entries_last_used_at", "last_used_at", "id"),
    Index("ix_gewe_cache_entries_forwards", "forwards", "id"),
    Index("ix_gewe_cache_entries_scope", "scope", "uploaded_at", "id"),
    Index("ix_gewe_cache_entries_scope_last_used_at", "scope", "last_used_at", "id"),
    Index("ix_gewe_cache_entries_scope_forwards", "scope", "forwards", "id"),
    Index("ix_gewe_cache_entries_md5", "md5"),
    sqlite_autoincrement=True,
    comment="Cached images: CDN information, where it came from and when it was uploaded.",
)

keys = Table(
    "gewe_cache_keys",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("entry_id", _Id, ForeignKey(entries.c.id, ondelete="CASCADE"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("value", Text, nullable=False),
    CheckConstraint("kind IN ('url', 'md5')", name="kind"),
    Index("ix_gewe_cache_keys_entry_id", "entry_id"),
    comment="What leads to an entry: its normalised URL, the user's md5, GeWe's md5.",
)

leases = Table(
    "gewe_cache_leases",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ending", String(16)),
    Column("reason", Text),
    Column("refusal", Text),
    Column("last_upload_at", UtcDateTime),
    CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name="ended"),
    Index("ix_gewe_cache_leases_expires_at", "expires_at"),
    comment="The one upload that many sends wait for, by which other processes know of it.",
)

usage = Table(
    "gewe_cache_usage",
    metadata,
    Column("hour", UtcDateTime, nullable=False),
    Column("scope", String(256), nullable=False),
    Column("uploads", BigInteger, nullable=False, server_default="0"),
    Column("forwards", BigInteger, nullable=False, server_default="0"),
    Column("fall_backs", BigInteger, nullable=False, server_default="0"),
    Column("refusals", BigInteger, nullable=False, server_default="0"),
    Column("unknowns", BigInteger, nullable=False, server_default="0"),
    Column("store_failures", BigInteger, nullable=False, server_default="0"),
    Column("bytes_saved", BigInteger, nullable=False, server_default="0"),
    Column("upload_seconds", Float(53), nullable=False, server_default="0"),
    Column("forward_seconds", Float(53), nullable=False, server_default="0"),
    PrimaryKeyConstraint("hour", "scope"),
    comment="What was sent in each hour (UTC) of each scope, and what it saved.",
)

broadcasts = Table(
    "gewe_cache_broadcasts",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("base_url", Text, nullable=False),
    Column("scope", String(256), nullable=False),
    Column("url", Text),
    Column("url_digest", LargeBinary(32)),
    Column("md5", String(32)),
    Column("pace", Text, nullable=False),
    Column("duplicates", Integer, nullable=False, server_default="0"),
    CheckConstraint("state IN ('preparing', 'open', 'cancelled')", name="state"),
    CheckConstraint("url IS NOT NULL OR md5 IS NOT NULL", name="image"),
    CheckConstraint("(url IS NULL) = (url_digest IS NULL)", name="url"),
    Index("ix_gewe_cache_broadcasts_url_digest", "url_digest"),
    Index("ix_gewe_cache_broadcasts_md5", "md5"),
    sqlite_autoincrement=True,
    comment="One image to many recipients: what is sent, in which scope and at which pace.",
)

deliveries = Table(
    "gewe_cache_deliveries",
    metadata,
    Column("broadcast_id", _Id, ForeignKey(broadcasts.c.id, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("app_id", String(256), nullable=False),
    Column("to_wxid", String(256), nullable=False),
    Column("is_group", Boolean, nullable=False),
    Column("state", String(8), nullable=False, server_default="pending"),
    Column("worker", String(64)),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("route", String(8)),
    Column("new_msg_id", String(20)),
    Column("reason", Text),
    PrimaryKeyConstraint("broadcast_id", "number"),
    CheckConstraint("state IN ('pending', 'sending', 'sent', 'refused', 'unknown')", name="state"),
    CheckConstraint("state = 'pending' OR worker IS NOT NULL", name="worker"),
    Index("ix_gewe_cache_deliveries_recipient", "broadcast_id", "to_wxid", "app_id", unique=True),
    Index("ix_gewe_cache_deliveries_state", "broadcast_id", "state", "app_id", "number"),
    comment="The ledger: one recipient of a broadcast, written before its send starts and after it ends.",
)

lanes = Table(
    "gewe_cache_lanes",
    metadata,
    Column("host", String(256), nullable=False),
    Column("app_id", String(256), nullable=False),
    Column("worker", String(64)),
    Column("expires_at", UtcDateTime),
    Column("ready_at", UtcDateTime, nullable=False),
    Column("recent", Text, nullable=False, server_default="[]"),
    PrimaryKeyConstraint("host", "app_id"),
    CheckConstraint("(worker IS NULL) = (expires_at IS NULL)", name="held"),
    comment="A device's queue: which worker of a broadcast holds it, until when, and when it may send next.",
)
