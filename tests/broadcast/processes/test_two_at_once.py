"""One broadcast resumed by two processes at once, and started by eight: nobody gets the image twice."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from gewe_cache.sandbox import Delays, Sandbox
from tests.broadcast.processes.kit import (
    PATIENCE,
    begin,
    check_done,
    count_broadcasts,
    counted,
    delivered,
    ledger,
    recipients_of,
)
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTS = 8


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox whose calls take a moment, so that two of them at once are seen."""
    with Sandbox(delays=Delays(call_seconds=0.005)) as running:
        yield running


def test_two_resumes(sandbox: Sandbox, url: str, shared_database: str) -> None:
    broadcast_id = begin(sandbox, shared_database, url, recipients_of(200, devices=5))
    with WorkerProcess(sandbox, shared_database) as one, WorkerProcess(sandbox, shared_database) as other:
        for worker in (one, other):
            worker.order("resume", broadcast_id=broadcast_id)
        assert [worker.answer()["sent"] for worker in (one, other)] == [200, 200]
    rows = ledger(shared_database, broadcast_id)
    check_done(sandbox, rows)
    assert counted(rows) == {"sent": 200}
    assert sandbox.overlaps() == []
    assert len(sandbox.uploads) == 1


def test_eight_starts(sandbox: Sandbox, url: str, shared_database: str) -> None:
    recipients = recipients_of(30, devices=3)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(WorkerProcess(sandbox, shared_database, database_timeout=PATIENCE))
            for _ in range(_STARTS)
        ]
        for worker in workers:
            worker.order("broadcast", url=url, recipients=recipients)
        answers = [worker.answer() for worker in workers]
    assert Counter(answer.get("error") for answer in answers) == {"AlreadyBroadcast": _STARTS - 1, None: 1}
    (winner,) = [answer for answer in answers if "error" not in answer]
    assert winner["sent"] == 30
    told = {answer["words"] for answer in answers if "error" in answer}
    assert all(f"broadcast {winner['id']}" in words for words in told)
    assert delivered(sandbox) == Counter(to_wxid for _, to_wxid in recipients)
    assert count_broadcasts(shared_database) == 1
