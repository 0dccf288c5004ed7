"""PostgreSQL stopped, killed, frozen and started again while images are being sent."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from gewe_cache import StoreError
from gewe_cache.sandbox import Fault
from tests.faults.kit import World, send
from tests.outages.kit import ASKING, LEAVING, ask, failures, pause_over, routes, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres import PostgresServer

_FROZEN_SEND = 20.0


@pytest.fixture(params=["stop", "kill"])
def end(request: pytest.FixtureRequest, server: PostgresServer) -> Callable[[], None]:
    """Give each way of ending the server."""
    method: Callable[[], None] = getattr(server, request.param)
    return method


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def _frozen(server: PostgresServer) -> Iterator[None]:
    """Stop every process of the server from running, as a machine that hangs would."""
    main = int((server.folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    os.kill(main, signal.SIGSTOP)  # first, so that it makes no more of them
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607
    pairs = [line.split() for line in listed.stdout.splitlines()]
    children = [int(pid) for pid, parent in pairs if int(parent) == main]
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (*children, main):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_ended_and_started_between_sends(
    pg_world: World, server: PostgresServer, end: Callable[[], None], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = pg_world
    driver = world.open(kind, _tuning=ASKING)
    sent = [send(driver, "wxid_1", world.image)]
    end()
    sent.append(send(driver, "wxid_2", world.image))
    other = world.sandbox.make_image("other.png", width=9, height=9)
    sent += [send(driver, to_wxid, other) for to_wxid in ("wxid_1", "wxid_2")]
    assert failures(caplog.records)
    server.start()
    pause_over(driver)
    warned = len(failures(caplog.records))
    sent += [send(driver, "wxid_3", world.image), send(driver, "wxid_3", other)]
    assert routes(*sent) == ["upload", "forward", "upload", "forward", "forward", "forward"]
    world.check_delivered(*sent)
    late = world.sandbox.make_image("late.png", width=7, height=7)
    assert send(driver, "wxid_3", late).route == "upload"
    assert send(world.open(kind, _tuning=ASKING), "wxid_4", late).route == "forward"  # it was saved again
    assert len(failures(caplog.records)) == warned


def test_a_short_restart_costs_nothing(
    pg_world: World, server: PostgresServer, end: Callable[[], None], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that were cut are made anew within the send that finds them so."""
    world = pg_world
    driver = world.open(kind, _tuning=LEAVING)
    first = send(driver, "wxid_1", world.image)
    end()
    server.start()
    again = send(driver, "wxid_2", world.image)
    other = send(driver, "wxid_2", world.sandbox.make_image("other.png", width=9, height=9))
    assert routes(first, again, other) == ["upload", "forward", "upload"]
    assert other.image is not None
    assert other.image.entry_id is not None
    assert failures(caplog.records) == []
    world.check_delivered(first, again, other)


@pytest.mark.parametrize("delivered_first", [False, True], ids=["before", "after"])
def test_ended_between_find_and_save(
    pg_world: World, server: PostgresServer, end: Callable[[], None], kind: str, delivered_first: object
) -> None:
    world = pg_world
    driver = world.open(kind, _tuning=replace(ASKING, lease_seconds=0.5))
    plan = world.sandbox.fail(Fault.hold(delivered_first=bool(delivered_first)), route="upload")
    sending = driver.begin("wxid_1", world.image)
    assert plan.wait_reached()
    end()
    plan.release()
    sent = [sending.result(30), send(driver, "wxid_2", world.image)]
    server.start()
    pause_over(driver)
    sent += [send(driver, "wxid_3", world.image)]  # what was learnt during the outage is in memory
    sent += [send(world.open(kind, _tuning=ASKING), "wxid_4", world.image)]  # the lease left behind has its end
    assert routes(*sent) == ["upload", "forward", "forward", "upload"]
    world.check_delivered(*sent)
    assert len(world.sandbox.calls) == 4


def test_a_sender_made_while_the_server_is_down(
    pg_world: World, server: PostgresServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = pg_world
    server.stop()
    driver = world.open(kind, _tuning=ASKING)
    assert ask(driver, "lookup", world.image) is None
    sent = [send(driver, "wxid_1", world.image), send(driver, "wxid_2", world.image)]
    with pytest.raises(StoreError, match="Nothing was changed"):
        ask(driver, "forget", world.image)
    server.start()
    pause_over(driver)
    caplog.clear()
    other = world.sandbox.make_image("other.png", width=9, height=9)
    sent += [send(driver, "wxid_3", world.image), send(driver, "wxid_3", other)]
    sent += [send(world.open(kind, _tuning=ASKING), "wxid_4", other)]
    assert routes(*sent) == ["upload", "forward", "forward", "upload", "forward"]
    assert failures(caplog.records) == []
    world.check_delivered(*sent)


def test_what_a_refused_row_says_is_said_nowhere(
    pg_world: World, pg_url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL names the whole row that broke a rule, its aes_key included."""
    world = pg_world
    caplog.set_level(logging.DEBUG)
    _execute(pg_url, "ALTER TABLE gewe_cache_entries ADD CONSTRAINT never CHECK (scope = 'never')")
    driver = world.open(kind, _tuning=ASKING)
    sent = send(driver, "wxid_1", world.image)
    assert sent.image is not None
    aes_key, file_id = sent.image.aes_key, sent.image.file_id
    message = f'<msg><img aeskey="{aes_key}" cdnmidimgurl="{file_id}" length="70" md5="{"a" * 32}"/></msg>'
    with pytest.raises(StoreError, match="violates check constraint") as caught:
        ask(driver, "remember", message)
    again = send(driver, "wxid_2", world.image)
    assert routes(sent, again) == ["upload", "forward"]
    assert any("violates check constraint" in line for line in failures(caplog.records))
    formatter = logging.Formatter()
    said = "\n".join([*map(formatter.format, caplog.records), str(caught.value), repr(caught.value)])
    assert aes_key not in said
    assert "Failing row" not in said
    world.check_delivered(sent, again)


if sys.platform != "win32":

    def test_a_frozen_server_holds_up_a_send_for_a_bounded_time(
        pg_world: World, server: PostgresServer, kind: str
    ) -> None:
        world = pg_world
        driver = world.open(kind, _tuning=LEAVING)
        first = send(driver, "wxid_1", world.image)
        began = time.monotonic()
        with _frozen(server):
            other = world.sandbox.make_image("other.png", width=9, height=9)
            during = send(driver, "wxid_2", other)
            again = send(driver, "wxid_3", other)
            assert time.monotonic() - began < _FROZEN_SEND
        store_of(driver)._away_until = store_of(driver)._unwritable_until = 0.0  # as time would
        after = send(driver, "wxid_3", world.image)
        assert routes(first, during, again, after) == ["upload", "upload", "forward", "forward"]
        world.check_delivered(first, during, again, after)

    def test_frozen_between_find_and_save(pg_world: World, server: PostgresServer, kind: str) -> None:
        world = pg_world
        driver = world.open(kind, _tuning=LEAVING)
        plan = world.sandbox.fail(Fault.hold(), route="upload")
        sending = driver.begin("wxid_1", world.image)
        assert plan.wait_reached()
        with _frozen(server):
            plan.release()
            sent = sending.result(_FROZEN_SEND)
            again = send(driver, "wxid_2", world.image)
        assert routes(sent, again) == ["upload", "forward"]
        world.check_delivered(sent, again)
