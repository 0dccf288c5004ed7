"""What the flow asks its driver to do. Each driver performs these six, and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from gewe_cache.gewe.transport import Guard
from gewe_cache.gewe.wire import Request
from gewe_cache.local_image import LocalImage

T = TypeVar("T")
Flow = Generator["Step", Any, T]


class Abandoned(BaseException):
    """Thrown into a flow whose caller has left, in place of a step that is not performed any more."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Perform an operation of the store, or give ``otherwise`` where the database is away.

    ``about``: the send that asks, if one does; read where the store fails, to say what was sent to whom.
    """

    operation: Callable[[Connection], Any]
    otherwise: Any
    purpose: str
    write: bool = False
    accepted: bool = False
    about: object = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Perform an operation of the store; its failure is the caller's to know."""

    operation: Callable[[Connection], Any]
    write: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """Post a call to GeWe; gives ``transport.Posted``. ``guard`` raises where it may not be written any more."""

    request: Request
    timeout: float
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a future; gives its result, or ``otherwise`` after ``seconds`` (None: others' bounds end it)."""

    future: Future[Any]
    seconds: float | None = None
    otherwise: Any = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Let ``seconds`` go by."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Call ``publish`` for an image that is still what it was named by; gives what it returns.

    Nothing of a send has gone out: who is abandoned meanwhile stops at once.
    """

    publish: Callable[[LocalImage], Any]
    image: LocalImage


Step = Ask | Demand | Post | Wait | Pause | Publish
