"""The last sends of this process that were not accepted, for the operator's eyes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gewe_cache.settings import utc_now
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from datetime import datetime

OUTCOMES: Final = frozenset({"refused", "unreached", "unknown"})

_KEPT: Final = 200
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Trouble:
    """A send that went wrong.

    Attributes:
        at: when its outcome was known, aware UTC.
        outcome: one of ``OUTCOMES``.
        route: ``upload``, ``forward`` or ``none``.
        ret: GeWe's code of a refusal, else None.
        words: why, in one line without secrets.
    """

    at: datetime
    outcome: str
    route: str
    app_id: str
    to_wxid: str
    ret: int | None
    words: str


class Troubles:
    """Keeps the last of them in memory. Belongs to one event loop."""

    def __init__(self) -> None:
        """Begin with none."""
        self.since = utc_now()
        self._kept: deque[Trouble] = deque(maxlen=_KEPT)

    def note(self, words: str, noted: dict[str, Any]) -> None:
        """Keep one by what the access log says of it."""
        outcome, route, app_id, to_wxid = (
            one_line(noted.get(name), _LONGEST_NAME) for name in ("outcome", "cache", "app_id", "to_wxid")
        )
        self._kept.append(Trouble(utc_now(), outcome, route, app_id, to_wxid, noted.get("ret"), one_line(words)))

    def latest(self, count: int) -> list[Trouble]:
        """Give the latest, the newest first."""
        return [*reversed(self._kept)][:count]
