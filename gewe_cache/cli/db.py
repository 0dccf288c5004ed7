"""``gewe-cache db …``: the schema of the database, looked at and migrated.

Commands that only read neither create nor migrate anything.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from gewe_cache.cli.output import (
    EXIT_FAILURE,
    complain,
    confirm,
    errors_as_exit_codes,
    print_json,
    print_line,
)
from gewe_cache.settings import find_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gewe_cache.store.engine import Database

app = typer.Typer(help="Look at the database's schema and migrate it.", no_args_is_help=True)

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="sqlite:///FILE or postgresql://USER@HOST/NAME. Default: GEWE_CACHE_DATABASE, which is also the place "
        "for a URL with a password (ps shows arguments), else the file in your data folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="A revision's id, or head.")] = "head",
    database: DatabaseOption = None,
) -> None:
    """Create or migrate the tables. Safe to run again, and by many at once."""
    with errors_as_exit_codes(), _opened(database) as opened:
        from gewe_cache.store import migrate  # noqa: PLC0415 - SQLAlchemy is slow to load

        migrate.upgrade(opened, revision)
        _say_revision(opened)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="A revision's id, or base for none.")],
    database: DatabaseOption = None,
    *,
    yes: YesOption = False,
) -> None:
    """Undo migrations. What the older schema has no place for is dropped."""
    with errors_as_exit_codes(), _opened(database) as opened:
        from gewe_cache.store import migrate, schema  # noqa: PLC0415 - SQLAlchemy is slow to load

        found = migrate.current(opened)
        loss = "everything cached and counted in it" if revision == "base" else "what that schema has no place for"
        question = f"Take {schema.shown(opened.url)} from schema {found or 'none'} to {revision}, dropping {loss}?"
        confirm(question, yes=yes)
        migrate.downgrade(opened, revision)
        _say_revision(opened)


@app.command()
def stamp(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="A revision's id, head, or base.")],
    database: DatabaseOption = None,
) -> None:
    """Write a revision into the database without migrating it. A repair tool: run check after it."""
    with errors_as_exit_codes(), _opened(database) as opened:
        from gewe_cache.store import migrate  # noqa: PLC0415 - SQLAlchemy is slow to load

        migrate.stamp(opened, revision)
        _say_revision(opened)


@app.command()
def current(database: DatabaseOption = None, *, json: JsonOption = False) -> None:
    """Show the database's schema and this package's."""
    with errors_as_exit_codes(), _opened(database) as opened:
        from gewe_cache.store import migrate, schema  # noqa: PLC0415 - SQLAlchemy is slow to load

        found = migrate.current(opened)
        if json:
            print_json({"database": schema.shown(opened.url), "revision": found, "head": schema.HEAD})
        else:
            print_line(f"{schema.shown(opened.url)}: schema {found or 'none'}; this package's is {schema.HEAD}.")


@app.command()
def history(*, json: JsonOption = False) -> None:
    """List the revisions of the schema, oldest first."""
    with errors_as_exit_codes():
        from gewe_cache.store import migrate  # noqa: PLC0415 - SQLAlchemy is slow to load

        for revision in migrate.history():
            if json:
                print_json({"revision": revision.id, "follows": revision.follows, "message": revision.message})
            else:
                print_line(f"{revision.id}  {revision.message}")


@app.command()
def check(database: DatabaseOption = None, *, json: JsonOption = False) -> None:
    """Compare the database with this package's tables; exit code 1 where they differ."""
    with errors_as_exit_codes(), _opened(database) as opened:
        from gewe_cache.store import migrate, schema  # noqa: PLC0415 - SQLAlchemy is slow to load

        differences = migrate.check(opened)
        for difference in differences:
            if json:
                print_json({"difference": difference})
            else:
                print_line(difference)
        if differences:
            complain(f"{schema.shown(opened.url)} differs from this package's tables in {len(differences)} ways.")
            raise typer.Exit(EXIT_FAILURE)
        if not json:
            print_line(f"{schema.shown(opened.url)} is as this package wants it: schema {schema.HEAD}.")


@app.command()
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What the revision does, in a few words.")],
    database: DatabaseOption = None,
    *,
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", help="Write what the database lacks of tables.py.")
    ] = False,
) -> None:
    """Write a new revision's script, in a checkout of the source."""
    with errors_as_exit_codes():
        from gewe_cache.store import migrate  # noqa: PLC0415 - SQLAlchemy is slow to load

        if autogenerate:
            with _opened(database) as opened:
                path = migrate.revision(message, opened)
        else:
            path = migrate.revision(message)
        print_line(str(path))
        complain("Read it through, then add its id to KNOWN_REVISIONS in gewe_cache/store/schema.py.")


@contextmanager
def _opened(database: str | None) -> Iterator[Database]:
    from gewe_cache.store.engine import open_database  # noqa: PLC0415 - SQLAlchemy is slow to load

    opened = open_database(find_database(database))
    try:
        yield opened
    finally:
        opened.dispose()


def _say_revision(database: Database) -> None:
    from gewe_cache.store import migrate, schema  # noqa: PLC0415 - SQLAlchemy is slow to load

    print_line(f"{schema.shown(database.url)}: schema {migrate.current(database) or 'none'}.")
