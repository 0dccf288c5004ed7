"""A read by one key, without most of what SQLAlchemy does for a statement: half its time on either database.

The statement is still SQLAlchemy's, and so are its types, its connections, and what follows a lost one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Dialect, Select


class _Compiled(NamedTuple):
    sql: str
    parameters: Callable[[bytes], Any]
    converters: Sequence[tuple[int, Callable[[Any], Any]]]


class KeyedRead:
    """A SELECT with one parameter, a digest."""

    def __init__(self, statement: Select[Any], parameter: str) -> None:
        """Compile nothing yet; ``parameter`` is the name of its ``bindparam``."""
        self._statement = statement
        self._parameter = parameter
        self._compiled: dict[str, _Compiled] = {}

    def first(self, connection: Connection, digest: bytes) -> list[Any] | None:
        """Give the values of the first row, or None where there is none.

        Raises:
            Exception: what the driver raises, or SQLAlchemy where the connection is lost.
        """
        compiled = self._compiled.get(connection.dialect.name) or self._compile(connection.dialect)
        driver = connection.connection
        try:
            cursor = driver.cursor()
            try:
                cursor.execute(compiled.sql, compiled.parameters(digest))
                row = cursor.fetchone()
            finally:
                cursor.close()
        except Exception as error:
            if connection.dialect.is_disconnect(error, driver.dbapi_connection, None):  # type: ignore[arg-type]
                connection.execute(self._statement, {self._parameter: digest})  # fails too: it gives up its connections
            raise
        except BaseException as interruption:
            connection.invalidate(interruption)  # Ctrl-C may have come in the middle of an answer
            raise
        if row is None:
            return None
        values = list(row)
        for place, convert in compiled.converters:
            values[place] = convert(values[place])
        return values

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled = self._statement.compile(dialect=dialect)
        name = self._parameter
        parameters = (lambda digest: (digest,)) if compiled.positional else (lambda digest: {name: digest})
        found = (column.type.dialect_impl(dialect) for column in self._statement.selected_columns)
        processors = (kind.result_processor(dialect, None) for kind in found)
        converters = [(place, convert) for place, convert in enumerate(processors) if convert is not None]
        self._compiled[dialect.name] = _Compiled(str(compiled), parameters, converters)
        return self._compiled[dialect.name]
