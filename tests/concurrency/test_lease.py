"""Leases: the rows by which processes know of each other's uploads, on both databases."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from freezegun import freeze_time
from sqlalchemy import event, func, select, update

from gewe_cache.sandbox import Fault
from gewe_cache.settings import Tuning
from gewe_cache.store import leases, migrate
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import leases as table
from tests.concurrency.crews import QUICK, Crews, outcomes, until, uploads, waiters
from tests.concurrency.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gewe_cache.sandbox import Sandbox
    from gewe_cache.store.engine import Database
    from gewe_cache.store.leases import Lease
    from tests.concurrency.crews import Crew

_DIGEST = b"d" * 32
_LENGTH = timedelta(seconds=15)
_AWAY = timedelta(hours=1)
_REFUSAL = {"error": "ImageRefused", "ret": 500, "msg": None, "data": None}
_SHORT = Tuning(lease_seconds=2.0, lease_renewal=0.1, lease_poll=0.02, unreached_pauses=())


class Rows:
    """The operations on leases, each in a transaction of its own, and a way to move a row in time."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self.run, getattr(leases, name))

    def run(self, operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Perform an operation."""
        with self.database.writer.begin() as connection:
            return operation(connection, *arguments, **options)

    def take(self, owner: str, memory: timedelta = timedelta(0)) -> Lease:
        """Try for the lease."""
        lease: Lease = self.acquire(_DIGEST, owner, _LENGTH, memory)
        return lease

    def read(self) -> Lease | None:
        """Read the lease."""
        lease: Lease | None = self.peek(_DIGEST, _LENGTH)
        return lease

    def move(self, by: timedelta) -> None:
        """Have everything in the row have happened at another time, as a clock that was set would show it."""
        with self.database.writer.begin() as connection:
            row = connection.execute(select(table)).one()
            times = {
                name: None if getattr(row, name) is None else getattr(row, name) + by
                for name in ("expires_at", "ended_at", "last_upload_at")
            }
            connection.execute(update(table).values(**times))

    def count(self) -> int:
        """Count the rows."""
        with self.database.reader.connect() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def rows(migrated_database: Database) -> Rows:
    return Rows(migrated_database)


@pytest.fixture
def shared_crews(sandbox: Sandbox, shared_database: str) -> Iterator[Crews]:
    """Make crews that share one database as processes do, on each backend."""
    with Crews(sandbox, shared_database) as maker:
        yield maker


# --- the row -----------------------------------------------------------------------------------------------


def test_who_asks_first_has_it_and_the_others_see_who(rows: Rows) -> None:
    assert rows.take("one").owner == "one"
    second = rows.take("two")
    assert (second.owner, second.running, second.ending) == ("one", True, None)
    assert rows.take("one").owner == "one"


def test_only_its_owner_ends_it(rows: Rows) -> None:
    rows.take("one")
    rows.end(_DIGEST, "two", "failed")
    rows.remove(_DIGEST, "two")
    assert rows.renew(["two"], _LENGTH) == 0
    assert rows.take("three").owner == "one"
    rows.end(_DIGEST, "one", "failed", reason="because")
    ended = rows.read()
    assert ended is not None
    assert (ended.running, ended.ending, ended.reason) == (False, "failed", "because")
    assert rows.take("three").owner == "three"
    rows.end(_DIGEST, "one", "refused", refusal=_REFUSAL)  # late: it is another's by now
    assert (rows.read() or ended).owner == "three"
    assert rows.take("four").owner == "three"


def test_an_ended_one_is_not_renewed(rows: Rows) -> None:
    rows.take("one")
    rows.end(_DIGEST, "one", "failed")
    assert rows.renew(["one"], _LENGTH) == 0


def test_it_expires(rows: Rows) -> None:
    rows.take("one")
    rows.move(-_LENGTH + timedelta(seconds=5))
    assert rows.take("two").owner == "one"
    rows.move(-timedelta(seconds=6))
    lost = rows.read()
    assert lost is not None
    assert (lost.owner, lost.running) == ("one", False)
    assert rows.take("two").owner == "two"


def test_it_is_renewed_by_its_owner(rows: Rows) -> None:
    rows.take("one")
    rows.move(-_LENGTH + timedelta(seconds=5))
    assert rows.renew(["one", "another"], _LENGTH) == 1
    rows.move(-timedelta(seconds=6))
    assert rows.take("two").owner == "one"


def test_one_that_ends_further_ahead_than_its_length_counts_as_ended(rows: Rows) -> None:
    """The clock was set back by an hour."""
    rows.take("one")
    rows.move(_AWAY)
    assert (rows.read() or rows.take("one")).running is False
    assert rows.take("two").owner == "two"


def test_a_refusal_is_remembered_for_who_had_called_by_then(rows: Rows) -> None:
    rows.take("one")
    rows.end(_DIGEST, "one", "refused", refusal=_REFUSAL)
    rows.move(-timedelta(seconds=20))
    told = rows.take("two", memory=timedelta(seconds=30))
    assert (told.owner, told.running, told.refusal) == ("one", False, _REFUSAL)
    assert rows.take("two", memory=timedelta(seconds=10)).owner == "two"
    assert (rows.read() or told).refusal is None


def test_a_failure_is_remembered_for_nobody(rows: Rows) -> None:
    rows.take("one")
    rows.end(_DIGEST, "one", "failed")
    assert rows.take("two", memory=timedelta(seconds=30)).owner == "two"


def test_a_refusal_from_the_future_is_forgotten(rows: Rows) -> None:
    rows.take("one")
    rows.end(_DIGEST, "one", "refused", refusal=_REFUSAL)
    rows.move(_AWAY)
    assert rows.take("two", memory=timedelta(seconds=30)).owner == "two"


def test_the_time_of_the_last_upload_outlives_a_flight(rows: Rows) -> None:
    rows.take("one")
    assert (rows.read() or rows.take("one")).last_upload_at is None
    rows.end(_DIGEST, "one", "failed", uploaded=True)
    lease = rows.take("two")
    assert lease.last_upload_at is not None
    assert abs(rows.read_clock() - lease.last_upload_at) < timedelta(seconds=5)
    rows.end(_DIGEST, "two", "take_over")
    assert rows.take("three").last_upload_at == lease.last_upload_at


def test_a_sweep_takes_what_nobody_can_wait_for(rows: Rows) -> None:
    rows.take("one")
    assert rows.sweep() == 0
    rows.end(_DIGEST, "one", "failed")
    rows.move(-timedelta(minutes=9))
    assert rows.sweep() == 0
    rows.move(-timedelta(minutes=2))
    assert rows.sweep() == 1
    assert rows.count() == 0


def test_two_connections_race_for_it(rows: Rows) -> None:
    """Ten at once, twenty times: always exactly one owner, and all see the same."""
    everybody = [f"flight{number}" for number in range(10)]
    with ThreadPoolExecutor(len(everybody)) as pool:
        for turn in range(20):
            digest, barrier = bytes([turn]) * 32, threading.Barrier(len(everybody))

            def race(owner: str, digest: bytes = digest, barrier: threading.Barrier = barrier) -> str:
                barrier.wait()
                return str(rows.acquire(digest, owner, _LENGTH).owner)

            assert len(set(pool.map(race, everybody))) == 1


def test_two_connections_race_for_an_expired_one(rows: Rows) -> None:
    with ThreadPoolExecutor(2) as pool:
        for turn in range(20):
            rows.take(f"dead{turn}")
            rows.move(-_AWAY)
            barrier = threading.Barrier(2)

            def race(owner: str, barrier: threading.Barrier = barrier) -> str:
                barrier.wait()
                return rows.take(owner).owner

            first, second = pool.map(race, [f"left{turn}", f"right{turn}"])
            assert first == second in {f"left{turn}", f"right{turn}"}


# --- the clock ---------------------------------------------------------------------------------------------


def test_sqlite_goes_by_the_machines_clock(sqlite_url: str) -> None:
    with _rows_on(sqlite_url) as rows, freeze_time(datetime.now(UTC) + _AWAY):
        assert rows.read_clock() == datetime.now(UTC)
        assert rows.take("one").clock_ahead == timedelta(0)


def test_postgresql_goes_by_its_own_clock(postgres_url: str) -> None:
    with _rows_on(postgres_url) as rows:
        assert rows.take("one").owner == "one"
        with freeze_time(datetime.now(UTC) + _AWAY):  # ours is an hour ahead of the database's
            other = rows.take("two")
            assert (other.owner, other.running) == ("one", True)
            assert abs(other.clock_ahead + _AWAY) < timedelta(seconds=5)
            assert rows.renew(["one"], _LENGTH) == 1
            rows.end(_DIGEST, "one", "refused", refusal=_REFUSAL, uploaded=True)
        ended = rows.take("two", memory=timedelta(seconds=30))
        assert ended.refusal == _REFUSAL
        assert ended.last_upload_at is not None
        assert abs(ended.last_upload_at - datetime.now(UTC)) < timedelta(seconds=30)


@contextmanager
def _rows_on(url: str) -> Iterator[Rows]:
    database = open_database(url)
    migrate.upgrade(database)
    yield Rows(database)
    database.dispose()


def test_a_renewal_committed_while_we_read_is_not_too_far_ahead(rows: Rows) -> None:
    """On SQLite our "now" goes into the statement, and is earlier than that of who commits before it runs."""
    rows.take("one")
    with rows.database.reader.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *_: rows.renew(["one"], _LENGTH))
        lease = leases.peek(connection, _DIGEST, _LENGTH)
    assert lease is not None
    assert lease.running


# --- a flight's lease --------------------------------------------------------------------------------------


def test_a_landed_flight_leaves_no_row(crews: Crews, sandbox: Sandbox, url: str, rows: Rows) -> None:
    crew = crews.make("threads", database=rows.database.url.render_as_string(hide_password=False))
    assert outcomes([crew.send("wxid_1", url)]) == ["upload"]
    assert rows.count() == 0
    sandbox.fail(Fault.refuse(data={"msg": "?"}), route="upload")
    assert outcomes([crew.send("wxid_1", url, refresh=True)]) == ["GeweRefused"]
    assert rows.count() == 1


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_long_upload_keeps_its_lease(shared_crews: Crews, sandbox: Sandbox, url: str, kind: str) -> None:
    """Twice as long as its lease, with others waiting for it: it stays the only upload."""
    leader_crew, other_crew = shared_crews.make(kind, _SHORT), shared_crews.make("tasks", _SHORT)
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    leader = leader_crew.send("wxid_leader", url, app_id="wx_sandbox_leader")
    plan.wait_reached()
    others = [other_crew.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(3)]
    until(lambda: waiters(other_crew.parts) == 2)
    renewals = _count_renewals(leader_crew)
    until(lambda: len(renewals) >= 44)
    assert len(uploads(sandbox)) == 1
    plan.release()
    assert outcomes([leader, *others]) == ["upload", "forward", "forward", "forward"]


def _count_renewals(crew: Crew) -> list[int]:
    background, renewals = crew.parts.background, list[int]()
    renew = background._renew

    def counted() -> None:
        renew()
        renewals.append(1)

    background._renew = counted  # type: ignore[method-assign]
    return renewals


def test_losing_the_lease_stops_no_upload_and_its_result_is_saved(
    shared_crews: Crews, sandbox: Sandbox, url: str, shared_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    crew, other_crew = shared_crews.make("threads", _SHORT), shared_crews.make("threads", QUICK)
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_leader")
    leader = crew.send("wxid_leader", url)
    plan.wait_reached()
    caplog.set_level(logging.WARNING, logger="gewe_cache")
    _give_lease_to_nobody(shared_database)
    until(lambda: "1 lease(s) were lost" in caplog.text)
    assert outcomes([other_crew.send("wxid_other", url, app_id="wx_sandbox_2")]) == ["upload"]
    plan.release()
    assert outcomes([leader]) == ["upload"]
    image = leader.result().image
    assert image is not None
    assert image.entry_id is not None
    third = shared_crews.make("threads").send("wxid_third", url)
    assert outcomes([third]) == ["forward"]
    assert sandbox.duplicates() == []


def _give_lease_to_nobody(database: str) -> None:
    opened = open_database(database)
    with opened.writer.begin() as connection:
        long_ago = datetime.now(UTC) - _AWAY
        connection.execute(update(table).values(owner="nobody", expires_at=long_ago))
    opened.dispose()


def test_a_killed_process_holds_up_nobody_for_long(sandbox: Sandbox, url: str, shared_database: str) -> None:
    killed, other = Process(), Process()
    for process in (killed, other):
        process.open(sandbox, shared_database, {"lease_seconds": 0.6, "lease_renewal": 0.1})
        process.answer()
    plan = sandbox.fail(Fault.hold(), route="upload", to_wxid="wxid_killed")
    killed.do("send", url=url, sends=[["wx_sandbox_1", "wxid_killed"]])
    plan.wait_reached()
    other.do("send", url=url, sends=[[f"wx_sandbox_{n}", f"wxid_{n}"] for n in range(3)])
    assert other.do("waiting", count=2, following=True)
    killed.kill()
    assert sorted(other.results()) == ["forward", "forward", "upload"]
    other.do("close")
    other.end()
    killed.end()


def test_a_process_whose_database_has_its_own_time_refreshes_by_it(
    processes: list[Process], sandbox: Sandbox, url: str
) -> None:
    """A refresh after another process's upload uploads again; both go by the store's clock."""
    processes[0].do("send", url=url, sends=[["wx_sandbox_1", "wxid_1"]])
    assert processes[0].results() == ["upload"]
    processes[1].do("send", url=url, sends=[["wx_sandbox_2", "wxid_2"]], refresh=True)
    assert processes[1].results() == ["upload"]
    processes[2].do("send", url=url, sends=[["wx_sandbox_3", "wxid_3"]])
    assert processes[2].results() == ["forward"]
    assert sandbox.forwards[0].file_id == sandbox.uploads[1].file_id
