"""How much is measured: a smoke run shows that everything runs, ``quick`` takes minutes, ``full`` an hour or so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run.

    Attributes:
        rounds: of every comparison.
        sends: in one round of one contender.
        lookups: in one round of one contender.
        entries: sizes of the cache table, ascending.
        devices: devices that send at once, ascending.
        waiters: of one flight, ascending.
        deliveries: of each device in a broadcast.
        images: bytes of the images sent with realistic delays, ascending.
    """

    name: str
    rounds: int
    sends: int
    lookups: int
    entries: tuple[int, ...]
    devices: tuple[int, ...]
    waiters: tuple[int, ...]
    deliveries: int
    images: tuple[int, ...]


SCALES: Final = {
    scale.name: scale
    for scale in (
        Scale("smoke", 1, 20, 50, (200,), (1, 5), (5,), 2, (50_000,)),
        Scale(
            "quick",
            31,
            100,
            1000,
            (1_000, 100_000, 1_000_000),
            (1, 10, 100, 1000),
            (10, 100, 1000),
            20,
            (50_000, 500_000, 5_000_000),
        ),
        Scale(
            "full",
            101,
            200,
            2000,
            (1_000, 10_000, 100_000, 1_000_000),
            (1, 10, 30, 100, 300, 1000),
            (10, 30, 100, 300, 1000),
            20,
            (50_000, 500_000, 5_000_000),
        ),
    )
}
