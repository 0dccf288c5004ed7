"""How fast one device sends.

GeWe's advice, from its access guide: 1 s between friends, a random 2 to 5 s between groups, about 40 messages
a minute, at most about 200 people in half an hour. A pause counts from the end of the send before.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final, Self

Range = tuple[float, float]

MINUTE: Final = timedelta(seconds=60)
MANY_IN_HALF_AN_HOUR: Final = 200

_MAX_PAUSE = 86_400.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses of one device, the same for every device of a broadcast.

    Attributes:
        after_friend, after_group: seconds from the end of a send to the start of the next, drawn uniformly
            between two bounds.
        most_in_a_minute: sends in any 60 s, or None for no limit.
        seed: makes the drawn pauses repeatable; None draws others each time.

    Raises:
        ValueError: naming the field.
    """

    after_friend: Range = (1.0, 1.0)
    after_group: Range = (2.0, 5.0)
    most_in_a_minute: int | None = 40
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("after_friend", "after_group"):
            object.__setattr__(self, name, _checked_range(name, getattr(self, name)))
        most = self.most_in_a_minute
        if most is not None and (type(most) is not int or most < 1):
            msg = "most_in_a_minute: pass a whole number of at least 1, or None for no limit."
            raise ValueError(msg)
        if self.seed is not None and type(self.seed) is not int:
            msg = "seed: pass a whole number, or None."
            raise ValueError(msg)

    @classmethod
    def gewe(cls, seed: int | None = None) -> Self:
        """Give the pace that GeWe advises; the default of every broadcast."""
        return cls(seed=seed)

    @classmethod
    def none(cls) -> Self:
        """Send without a pause. Against WeChat itself this costs accounts."""
        return cls((0.0, 0.0), (0.0, 0.0), None)

    @classmethod
    def every(cls, seconds: float) -> Self:
        """Pause this long after every send."""
        return cls((seconds, seconds), (seconds, seconds), None)

    @property
    def longest(self) -> timedelta:
        """The longest that a lane ever waits by this pace."""
        pause = timedelta(seconds=max(self.after_friend[1], self.after_group[1]))
        return pause if self.most_in_a_minute is None else max(pause, MINUTE)

    def to_json(self) -> str:
        """Write it as the ledger keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(text))

    def pauses(self, app_id: str) -> Pauses:
        """Give the pauses of one device."""
        return Pauses(self, app_id)

    def ready_at(self, recent: tuple[datetime, ...], pause: timedelta) -> datetime:
        """Give when the next send may start, after those that ended at ``recent``, oldest first; at least one."""
        most = self.most_in_a_minute
        ready_at = recent[-1] + pause
        return ready_at if most is None or len(recent) < most else max(ready_at, recent[-most] + MINUTE)

    def ready_after_lost(self, recent: tuple[datetime, ...]) -> datetime:
        """Give when the next send may start if nothing more is heard of the last one, begun at ``recent[-1]``."""
        return self.ready_at(recent, timedelta(seconds=max(self.after_friend[1], self.after_group[1])))

    def estimate(self, friends: int, groups: int) -> timedelta:
        """Give how long the pauses of a device with so many recipients take on average, GeWe's own time not counted."""
        pauses = friends * _middle(self.after_friend) + groups * _middle(self.after_group)
        if self.most_in_a_minute is None:
            return timedelta(seconds=pauses)
        return max(timedelta(seconds=pauses), (friends + groups) // self.most_in_a_minute * MINUTE)


class Pauses:
    """When one device may send again."""

    def __init__(self, pace: Pace, app_id: str) -> None:
        """Draw from a source of its own, so that what other devices do changes nothing."""
        self._pace = pace
        self._random = random.Random() if pace.seed is None else random.Random(f"{pace.seed}:{app_id}")  # noqa: S311

    def after(self, *, is_group: bool) -> timedelta:
        """Draw the pause after a send."""
        low, high = self._pace.after_group if is_group else self._pace.after_friend
        return timedelta(seconds=self._random.uniform(low, high))

    def worth_keeping(self, recent: tuple[datetime, ...]) -> tuple[datetime, ...]:
        """Give those ends that still count for the limit of a minute, and the last."""
        newest = recent[-1]
        within = tuple(end for end in recent if newest - MINUTE < end <= newest)
        return within[-(self._pace.most_in_a_minute or 1) :]


def _checked_range(name: str, given: object) -> Range:
    bounds = [*given] if isinstance(given, tuple | list) else []
    are_numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in bounds)
    if len(bounds) != 2 or not are_numbers or not 0 <= bounds[0] <= bounds[1] <= _MAX_PAUSE:  # noqa: PLR2004 - a pair
        msg = f"{name}: pass two numbers of seconds, the smaller first, from 0 to {_MAX_PAUSE:.0f}."
        raise ValueError(msg)
    return float(bounds[0]), float(bounds[1])


def _middle(bounds: Range) -> float:
    return sum(bounds) / 2
