"""The one place that knows Alembic: every call is on a connection that the caller has opened and locked.

Imported only when there is something to migrate: Alembic takes longer to import than all the rest.
Not safe in threads, for Alembic keeps its state in globals: ``migrate.py`` calls it under a lock.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import CheckConstraint, Column, Constraint, Index, inspect

from gewe_cache.store import tables
from gewe_cache.store.partial_indexes import metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import Connection, Inspector

__all__ = ["CommandError"]

_OUR_TABLES = "gewe_cache_"
_PACKAGE = Path(__file__).parents[1]


def migrations_folder() -> Path:
    """Find the migrations: inside the package where it was installed from a wheel, else at the checkout's top."""
    shipped = _PACKAGE / "migrations"
    return shipped if (shipped / "env.py").is_file() else _PACKAGE.parent / "migrations"


def is_checkout() -> bool:
    """Tell whether new revisions can be written: not into an installed package."""
    return migrations_folder().parent != _PACKAGE


def environment_options() -> dict[str, Any]:
    """How Alembic reads the database and our tables; the same for ``env.py`` and for ``differences``."""
    return {
        "target_metadata": metadata,
        "version_table": tables.VERSION_TABLE,
        "render_as_batch": True,
        "transactional_ddl": True,
        "compare_type": True,
        "compare_server_default": True,
        "include_name": _is_ours,
        "render_item": _render_item,
    }


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to a revision."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo the migrations down to a revision."""
    command.downgrade(_config(connection), revision)


def stamp(connection: Connection, revision: str) -> None:
    """Write a revision into the database without running anything."""
    command.stamp(_config(connection), revision)


def history() -> list[tuple[str, str | None, str]]:
    """Give each revision, oldest first: its id, the one before it, its message."""
    found = ScriptDirectory.from_config(_config(None)).walk_revisions()
    rows = [(script.revision, _only(script.down_revision), script.doc) for script in found]
    return rows[::-1]


def new_revision(connection: Connection | None, message: str) -> Path:
    """Write the script of a new revision; with a connection, from what its database lacks."""
    revision_id = f"{int(history()[-1][0]) + 1:04}"
    made = command.revision(_config(connection), message, autogenerate=connection is not None, rev_id=revision_id)
    script = made[0] if isinstance(made, list) else made
    if script is None:
        msg = "Alembic wrote no script"
        raise CommandError(msg)
    return Path(script.path)


def differences(connection: Connection) -> list[str]:
    """Say in which ways a database is not what ``tables.py`` says; foreign tables are not looked at."""
    context = MigrationContext.configure(connection, opts=environment_options())
    found = [_in_words(difference) for difference in compare_metadata(context, metadata)]
    inspector = inspect(connection)
    return found + [line for name in metadata.tables for line in _compare_names(inspector, name)]


def _config(connection: Connection | None) -> Config:
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", _escaped(migrations_folder()))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def _escaped(folder: Path) -> str:
    return str(folder).replace("%", "%%")


def _only(revision: Any) -> str | None:  # noqa: ANN401 - Alembic's union of shapes
    return revision if isinstance(revision, str) else None


def _is_ours(name: str | None, kind: str, parents: Any) -> bool:  # noqa: ANN401, ARG001 - Alembic's signature
    return kind != "table" or (name or "").startswith(_OUR_TABLES)


def _render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:  # noqa: ANN401
    """Render our own type as the plain one: an old revision must not change when our code does."""
    plain = {tables.UtcDateTime: "sa.DateTime(timezone=True)", tables.AesKey: "sa.String(length=32)"}
    return plain.get(type(item), False) if kind == "type" else False


def _in_words(difference: Any) -> str:  # noqa: ANN401 - Alembic's nested tuples
    if isinstance(difference, list):
        return "; ".join(_in_words(part) for part in difference)
    kind, *details = difference
    named = [_named(part) for part in details if part is not None and not isinstance(part, dict)]
    return f"{kind}: {', '.join(name for name in named if not named[-1].startswith(f'{name}.'))}"


def _named(part: object) -> str:
    if isinstance(part, Column | Constraint | Index) and part.table is not None:
        return f"{part.table.name}.{part.name}"
    return str(part)


def _compare_names(inspector: Inspector, table: str) -> Iterable[str]:
    """Compare what Alembic does not: check constraints, and the names of keys where the database keeps them."""
    if not inspector.has_table(table):
        return
    declared = metadata.tables[table]
    checks = {str(item.name) for item in declared.constraints if isinstance(item, CheckConstraint)}
    keys = {str(item.name) for item in declared.foreign_key_constraints}
    found_checks = {str(item["name"]) for item in inspector.get_check_constraints(table)}
    found_keys = {str(item["name"]) for item in inspector.get_foreign_keys(table)}
    primary_key = inspector.get_pk_constraint(table)["name"]
    if primary_key is not None:
        keys.add(str(declared.primary_key.name))
        found_keys.add(primary_key)
    for kind, ours, theirs in (("check", checks, found_checks), ("key", keys, found_keys)):
        yield from (f"add_{kind}: {table}.{name}" for name in sorted(ours - theirs))
        yield from (f"remove_{kind}: {table}.{name}" for name in sorted(theirs - ours))
