"""The database goes away amid a broadcast: it pauses, and nothing is sent that could not be written down first."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from gewe_cache import Delivery, Pace, StoreError
from gewe_cache.broadcast import run
from gewe_cache.broadcast.run import Limits, Listener
from gewe_cache.broadcast.service import Broadcasts, broadcasts_of
from gewe_cache.sandbox import Delays, Sandbox
from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from gewe_cache.store.ledger import Turn
from tests.broadcast.processes.kit import (
    PATIENCE,
    begin,
    check_done,
    counted,
    delivered,
    ledger,
    named,
    open_sender,
    recipients_of,
    until,
    wait_for_the_last,
)
from tests.broadcast.processes.workers import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from gewe_cache import Broadcast
    from tests.postgres import PostgresServer

_DEVICES = 5
_RECIPIENTS = 150
_QUICK = {"database_timeout": 0.3}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox whose calls take a moment, so that a broadcast is still under way when its database goes."""
    with Sandbox(delays=Delays(call_seconds=0.02)) as running:
        yield running


@dataclass
class _UnderWay:
    """A broadcast at work in a thread, and what it says."""

    broadcast_id: int
    notices: list[str] = field(default_factory=list)
    told: list[Delivery] = field(default_factory=list)
    ending: Future[Broadcast] | None = None

    def wait_for(self, words: str) -> None:
        until(lambda: any(words in notice for notice in [*self.notices]))

    def end(self) -> Broadcast:
        assert self.ending is not None
        return self.ending.result(PATIENCE)


@pytest.fixture
def work(sandbox: Sandbox, url: str) -> Iterator[Callable[..., _UnderWay]]:
    """Begin a broadcast and work on it in a thread."""
    with ThreadPoolExecutor(2) as threads:

        def begun(database: str, watch: Callable[[Broadcasts], None] = lambda _: None, **limits: Any) -> _UnderWay:
            made = _UnderWay(begin(sandbox, database, url, recipients_of(_RECIPIENTS, _DEVICES)))
            listener = Listener(made.told.append, made.notices.append)

            def resume() -> Broadcast:
                with (
                    open_sender(sandbox, database, **_QUICK) as sender,
                    broadcasts_of(sender._core, Limits(**limits)) as opened,
                ):
                    found = opened.check_resumable(made.broadcast_id)
                    watch(opened)
                    return opened.run_now(found, pace=Pace.none(), listener=listener)

            made.ending = threads.submit(resume)
            return made

        yield begun


def _check_all_sent(sandbox: Sandbox, database: str, made: _UnderWay) -> None:
    assert made.end().sent == _RECIPIENTS
    rows = ledger(database, made.broadcast_id)
    check_done(sandbox, rows)
    assert counted(rows) == {"sent": _RECIPIENTS}
    assert sorted(each.number for each in made.told) == sorted(row.number for row in rows)


def _check_written_first(sandbox: Sandbox, rows: Any) -> None:
    """Hold that whoever has the image was written down before."""
    assert delivered(sandbox).keys() <= named(rows, "sending", "sent")


def test_postgresql_ends_and_starts_again(
    sandbox: Sandbox, work: Callable[..., _UnderWay], postgres_server: PostgresServer
) -> None:
    url = postgres_server.url
    database = open_database(url)
    migrate.upgrade(database)
    database.dispose()
    made = work(url)
    for end in (postgres_server.stop, postgres_server.kill):
        before = len(delivered(sandbox))
        until(lambda enough=before + 20: len(delivered(sandbox)) >= enough)  # type: ignore[misc]
        end()
        at_the_end = len(sandbox.calls)
        made.wait_for("is away")
        wait_for_the_last(sandbox)
        assert len(sandbox.calls) <= at_the_end + _DEVICES  # those that were claimed by then
        postgres_server.start()
        made.wait_for("is back")
        made.notices.clear()
    _check_all_sent(sandbox, url, made)


def test_a_file_that_another_connection_keeps_locked(
    sandbox: Sandbox, work: Callable[..., _UnderWay], shared_file: str, tmp_path: Path
) -> None:
    made = work(shared_file)
    with closing(sqlite3.connect(tmp_path / "cache.db", timeout=PATIENCE, isolation_level=None)) as connection:
        for mode in ("IMMEDIATE", "EXCLUSIVE"):
            before = len(delivered(sandbox))
            until(lambda enough=before + 20: len(delivered(sandbox)) >= enough)  # type: ignore[misc]
            connection.execute(f"BEGIN {mode}")
            made.wait_for("database is locked")
            wait_for_the_last(sandbox)
            _check_written_first(sandbox, ledger(shared_file, made.broadcast_id))
            connection.execute("ROLLBACK")
            made.wait_for("is back")
            made.notices.clear()
    _check_all_sent(sandbox, shared_file, made)


def test_a_full_file(sandbox: Sandbox, work: Callable[..., _UnderWay], shared_file: str) -> None:
    is_full = threading.Event()

    def fill(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {1 if is_full.is_set() else 1_000_000}")  # 1: as many as it has

    def watch(opened: Broadcasts) -> None:
        event.listen(opened._open_writer()._database.writer, "checkout", fill)

    made = work(shared_file, watch)
    until(lambda: len(delivered(sandbox)) >= 5)
    is_full.set()
    made.wait_for("full")
    wait_for_the_last(sandbox)
    _check_written_first(sandbox, ledger(shared_file, made.broadcast_id))
    is_full.clear()
    made.wait_for("is back")
    _check_all_sent(sandbox, shared_file, made)


def _lose_answers(opened: Broadcasts, numbers: range, lost: list[Turn]) -> None:
    """Have the answers to some commits lost, as on a connection that is cut right after them."""
    writer = opened._open_writer()
    perform_now, turns = writer.perform_now, itertools.count()

    def losing(operation: Callable[[Any], Any]) -> Any:
        result = perform_now(operation)
        if isinstance(result, Turn) and next(turns) in numbers:
            lost.append(result)
            statement = "COMMIT"
            raise OperationalError(statement, {}, ConnectionResetError("the answer was lost"))
        return result

    writer.perform_now = losing  # type: ignore[method-assign]


def test_commits_whose_answers_are_lost(
    sandbox: Sandbox, work: Callable[..., _UnderWay], shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_AWAY_PAUSE", 0.01)
    lost: list[Turn] = []
    made = work(shared_database, lambda opened: _lose_answers(opened, range(0, 10_000, 3), lost))
    _check_all_sent(sandbox, shared_database, made)
    assert any(turn.claims for turn in lost)
    assert len(sandbox.uploads) == 1


def _cut_off(opened: Broadcasts, is_back: threading.Event, lost: list[Turn]) -> None:
    """Have the answer to a commit that claims lost, and the database away from then on."""
    writer = opened._open_writer()
    perform_now, claiming = writer.perform_now, itertools.count()

    def cut_off(operation: Callable[[Any], Any]) -> Any:
        if lost and not is_back.is_set():
            statement = "BEGIN"
            raise OperationalError(statement, {}, ConnectionRefusedError("away"))
        result = perform_now(operation)
        if not lost and isinstance(result, Turn) and result.claims and next(claiming) == _DEVICES:
            lost.append(result)
            statement = "COMMIT"
            raise OperationalError(statement, {}, ConnectionResetError("the answer was lost"))
        return result

    writer.perform_now = cut_off  # type: ignore[method-assign]


def test_claims_whose_answer_is_lost_and_that_another_worker_settles(
    sandbox: Sandbox, work: Callable[..., _UnderWay], shared_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lost them knows that they were never begun: in the end they are neither unknown nor forgotten."""
    monkeypatch.setattr(run, "_AWAY_PAUSE", 0.01)
    lost: list[Turn] = []
    is_back = threading.Event()
    with WorkerProcess(sandbox, shared_postgres, lane_seconds=0.3) as other:
        made = work(shared_postgres, lambda opened: _cut_off(opened, is_back, lost), lane_seconds=0.3)
        until(lambda: bool(lost))
        other.order("resume", broadcast_id=made.broadcast_id)
        claimed = {claim.to_wxid for claim in lost[0].claims}
        until(lambda: claimed <= named(ledger(shared_postgres, made.broadcast_id), "unknown"))
        is_back.set()
        made.end()
        other.answer()
    rows = ledger(shared_postgres, made.broadcast_id)
    check_done(sandbox, rows)
    assert counted(rows) == {"sent": _RECIPIENTS}


def test_away_for_longer_than_its_patience(
    sandbox: Sandbox, work: Callable[..., _UnderWay], shared_file: str, tmp_path: Path
) -> None:
    made = work(shared_file, patience=1.0)
    with closing(sqlite3.connect(tmp_path / "cache.db", timeout=PATIENCE, isolation_level=None)) as connection:
        until(lambda: len(delivered(sandbox)) >= 20)
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=f"gewe-cache broadcast resume {made.broadcast_id}"):
            made.end()
        wait_for_the_last(sandbox)
        _check_written_first(sandbox, ledger(shared_file, made.broadcast_id))
        connection.execute("ROLLBACK")
    with open_sender(sandbox, shared_file) as sender, broadcasts_of(sender._core, Limits(0.6, 0.1)) as opened:
        found = opened.check_resumable(made.broadcast_id)
        ended = opened.run_now(found, pace=Pace.none(), listener=Listener())
    assert ended.unknown <= _DEVICES
    assert ended.sent + ended.unknown == _RECIPIENTS
    check_done(sandbox, ledger(shared_file, made.broadcast_id))
