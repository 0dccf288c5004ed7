"""The indexes over some of a table's rows; ``metadata`` is the tables' own, with these in it.

To declare one, SQLAlchemy loads both databases' dialects, which is slow. Only who makes tables or compares them
with what is there needs these; no query does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Index, text

from gewe_cache.store.tables import deliveries, entries, keys, lanes, metadata

if TYPE_CHECKING:
    from sqlalchemy import Column

__all__ = ["INDEXES", "metadata"]


def _partial(name: str, where: str, *columns: Column[object], unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


INDEXES: Final = (
    _partial("ix_gewe_cache_entries_retired", "retired_at IS NOT NULL", entries.c.uploaded_at, entries.c.id),
    _partial("ix_gewe_cache_keys_md5", "kind = 'md5'", keys.c.value),
    # A group is one chat, whichever device sends to it.
    _partial(
        "ix_gewe_cache_deliveries_group", "is_group", deliveries.c.broadcast_id, deliveries.c.to_wxid, unique=True
    ),
    _partial("ix_gewe_cache_lanes_worker", "worker IS NOT NULL", lanes.c.worker),
)
