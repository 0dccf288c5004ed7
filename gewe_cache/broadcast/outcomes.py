"""What the end of a send means for its delivery, for its lane and for the broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gewe_cache.errors import (
    DeliveryUnknown,
    DeviceUnavailable,
    GeweRefused,
    GeweUnreachable,
    ImageRefused,
    InvalidImage,
    PublishFailed,
    RecipientUnavailable,
    StoreError,
    TokenRefused,
    TooFast,
)
from gewe_cache.image import SentImage
from gewe_cache.sending.steps import Abandoned
from gewe_cache.text import one_line

if TYPE_CHECKING:
    from gewe_cache.store.ledger import State

Consequence = Literal["drop", "go_on", "count", "slow_down", "stop_lane", "stop_all"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's state, why, and what follows.

    ``drop``: no call was made. ``count``: the lane stops when it happens several times in a row.
    """

    state: State
    consequence: Consequence
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    errors: tuple[type[BaseException], ...]
    state: State
    consequence: Consequence


# The first row that fits. What no row names may have gone out, and nothing more is tried.
_TABLE = (
    _Row((Abandoned,), "pending", "drop"),
    _Row((RecipientUnavailable,), "refused", "go_on"),
    _Row((TooFast,), "pending", "slow_down"),
    _Row((TokenRefused, DeviceUnavailable), "pending", "stop_lane"),
    _Row((ImageRefused, InvalidImage, PublishFailed, StoreError), "pending", "stop_all"),
    _Row((GeweRefused,), "refused", "count"),
    _Row((GeweUnreachable,), "pending", "count"),
    _Row((DeliveryUnknown,), "unknown", "count"),
    _Row((BaseException,), "unknown", "stop_all"),
)


def judge(end: SentImage | BaseException) -> Verdict:
    """Tell what the end of a send means."""
    if isinstance(end, SentImage):
        return Verdict("sent", "go_on")
    row = next(row for row in _TABLE if isinstance(end, row.errors))
    return Verdict(row.state, row.consequence, _reason(end))


def _reason(error: BaseException) -> str | None:
    if isinstance(error, Abandoned):
        return None
    if isinstance(error, GeweRefused):
        return f"{type(error).__name__}: ret {error.ret}: {error.words}"
    if isinstance(error, DeliveryUnknown):
        return f"no clear answer: {one_line(error.reason)}"
    return one_line(error) or type(error).__name__
