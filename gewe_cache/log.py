"""The logger tree ``gewe_cache``, without handlers of its own."""

from __future__ import annotations

import logging
from contextlib import suppress


class Log:
    """A logger whose handlers may fail: what is sent must not look failed because a line could not be written."""

    def __init__(self, name: str) -> None:
        """Name it in the tree."""
        self._logger = logging.getLogger(name)

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Write a line."""
        with suppress(Exception):
            self._logger.log(level, message, *arguments, stacklevel=2)

    def warning(self, message: str, *arguments: object) -> None:
        """Write a line that somebody should read."""
        with suppress(Exception):
            self._logger.warning(message, *arguments, stacklevel=2)

    def exception(self, message: str, *arguments: object) -> None:
        """Write a line with the exception under way."""
        with suppress(Exception):
            self._logger.error(message, *arguments, stacklevel=2, exc_info=True)  # noqa: LOG014 - the caller handles it
