"""Workers killed with ``kill -9`` at random points and resumed: everyone gets the image once, or is listed."""

from __future__ import annotations

import queue
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from gewe_cache.sandbox import Fault
from tests.broadcast.processes.kit import (
    begin,
    check_done,
    delivered,
    ledger,
    named,
    recipients_of,
    wait_for_the_last,
)
from tests.broadcast.processes.points import IN_A_CALL, IN_A_TURN
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox

_RECIPIENTS = 500
_KILLS = 20
_WORKERS = 4
# A life sends no more than this before it ends, so that something is left for every kill.
_MOST_CALLS = 12
_MOST_TURNS = 2

Life = tuple[str, int]


def _lives(seed: int, *further: str) -> list[Life]:
    """Draw where each life ends: at which point, and at which passage of it."""
    source = random.Random(seed)  # noqa: S311 - no secret
    points = [*IN_A_TURN, *IN_A_CALL, *further]
    drawn = (source.choice(points) for _ in range(_KILLS))
    return [(point, source.randint(1, _MOST_TURNS if point in IN_A_TURN else _MOST_CALLS)) for point in drawn]


def _end_at(worker: WorkerProcess, sandbox: Sandbox, broadcast_id: int, life: Life) -> None:
    """Let a worker work until its life ends."""
    point, count = life
    if not point.startswith("held"):
        worker.arm(point, count)
        worker.order("resume", broadcast_id=broadcast_id)
        worker.wait_killed()
        return
    sandbox.fail(Fault.slow(0.0), times=count)  # those before it pass
    plan = sandbox.fail(Fault.hold(delivered_first=point == "held after"))
    worker.order("resume", broadcast_id=broadcast_id)
    plan.wait_reached(60)
    worker.kill()
    plan.release()
    sandbox.heal()


def _check(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    wait_for_the_last(sandbox)
    rows = ledger(database, broadcast_id)
    assert len(rows) == _RECIPIENTS
    check_done(sandbox, rows)
    # each life is a worker of its own, and a worker holds one delivery in a lane
    of_each = Counter((row.worker, row.app_id) for row in rows if row.state == "unknown")
    assert set(of_each.values()) <= {1}


def _check_resending(sandbox: Sandbox, database: str, broadcast_id: int) -> None:
    """Hold that ``resend_unknown`` sends exactly what is unknown."""
    unknown, before = named(ledger(database, broadcast_id), "unknown"), delivered(sandbox)
    with WorkerProcess(sandbox, database) as worker:
        answer = worker.do("resume", broadcast_id=broadcast_id, resend_unknown=True)
    assert (answer["sent"], answer["unknown"]) == (_RECIPIENTS, 0)
    assert delivered(sandbox) - before == Counter(unknown)


def test_one_worker_at_a_time(sandbox: Sandbox, url: str, shared_file: str) -> None:
    seed = random.getrandbits(32)
    print(f"{seed=}")  # noqa: T201 - shown where the test fails
    broadcast_id = begin(sandbox, shared_file, url, recipients_of(_RECIPIENTS))
    with ExitStack() as spares:
        spare = spares.enter_context(WorkerProcess(sandbox, shared_file))
        for life in _lives(seed, "held before", "held after"):
            worker, spare = spare, WorkerProcess(sandbox, shared_file)  # starts while the other one works
            spares.push(spare)
            _end_at(worker, sandbox, broadcast_id, life)
            assert spare.answer() is None
        answer = spare.do("resume", broadcast_id=broadcast_id)
    assert (answer["pending"], answer["sending"], answer["stopped"]) == (0, 0, {})
    _check(sandbox, shared_file, broadcast_id)
    _check_resending(sandbox, shared_file, broadcast_id)


def test_four_workers_of_which_one_is_killed_each_time(sandbox: Sandbox, url: str, shared_postgres: str) -> None:
    seed = random.getrandbits(32)
    print(f"{seed=}")  # noqa: T201 - shown where the test fails
    broadcast_id = begin(sandbox, shared_postgres, url, recipients_of(_RECIPIENTS))
    lives: queue.SimpleQueue[Life] = queue.SimpleQueue()
    for drawn in _lives(seed):
        lives.put(drawn)

    def seat(_: int) -> None:
        """Have one worker follow the other while there are lives left."""
        while (life := _next(lives)) is not None:
            with WorkerProcess(sandbox, shared_postgres) as worker:
                _end_at(worker, sandbox, broadcast_id, life)

    def finish(_: int) -> dict[str, Any]:
        with WorkerProcess(sandbox, shared_postgres) as worker:
            return dict(worker.do("resume", broadcast_id=broadcast_id))

    with ThreadPoolExecutor(_WORKERS) as seats:
        list(seats.map(seat, range(_WORKERS)))
        answers = list(seats.map(finish, range(_WORKERS)))
    assert [(each["pending"], each["sending"], each["stopped"]) for each in answers] == [(0, 0, {})] * _WORKERS
    _check(sandbox, shared_postgres, broadcast_id)
    _check_resending(sandbox, shared_postgres, broadcast_id)


def _next(lives: queue.SimpleQueue[Life]) -> Life | None:
    try:
        return lives.get_nowait()
    except queue.Empty:
        return None
