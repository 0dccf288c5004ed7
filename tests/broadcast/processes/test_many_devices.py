"""Many devices side by side in one process; with 1,000 x 20 it is run by hand (``many.py``)."""

from __future__ import annotations

from tests.broadcast.processes.many import send


def test_two_hundred_devices(shared_database: str) -> None:
    outcome = send(shared_database, 200, 10)
    assert (outcome.broadcast.sent, outcome.broadcast.unknown) == (2000, 0)
    assert outcome.record == {"uploads": 1, "deliveries": 2000, "calls": 2000, "duplicates": 0, "overlaps": 0}
