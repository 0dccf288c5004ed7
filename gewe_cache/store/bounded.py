"""A connection to PostgreSQL on which every wait has an end.

PostgreSQL's own time-outs end a statement that is slow; they end nothing where the server is frozen, or where
the network drops its packets without a word: there a send would wait for its cache for ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from gewe_cache.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")


def check_parameters(names: Iterable[str]) -> None:
    """Refuse a parameter of a database's URL that PostgreSQL does not know, before anything is sent without it.

    Raises:
        ValueError: naming it.
    """
    try:
        make_conninfo(**dict.fromkeys(names, "1"))
    except psycopg.ProgrammingError as error:
        msg = f"database: {one_line(error)}; what follows the ? in its URL has to be a parameter of PostgreSQL's."
        raise ValueError(msg) from None


def connect_within(seconds: float) -> Callable[..., psycopg.Connection[Any]]:
    """Give a ``psycopg.connect`` whose connections wait no longer than this for any answer."""

    class BoundedConnection(psycopg.Connection[Any]):
        """Gives up, and closes itself, when the server does not answer in time."""

        def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:  # noqa: ANN401
            """Wait for the server as psycopg does, with an end."""
            return super().wait(_bounded(gen, seconds, self.pgconn.finish), *arguments, **options)

    return BoundedConnection.connect


def _bounded(steps: Generator[Any, Any, T], seconds: float, close: Callable[[], None]) -> Generator[Any, Any, T]:
    """Perform psycopg's steps; while it waits it comes back here every 0.1 s."""
    deadline = time.monotonic() + seconds
    try:
        step = next(steps)
        while True:
            ready = yield step
            if not ready and time.monotonic() > deadline:
                steps.close()
                close()
                msg = f"no answer from the server within {seconds:g} s"
                raise psycopg.OperationalError(msg)
            step = steps.send(ready)
    except StopIteration as finished:
        result: T = finished.value
        return result
