"""Refused forwards: one upload in a minute at most, however many are refused and by however many processes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time
from sqlalchemy import select, update

from gewe_cache.sandbox import Fault
from gewe_cache.settings import Tuning
from gewe_cache.store.engine import open_database
from gewe_cache.store.tables import entries
from tests.concurrency.crews import PATIENCE, QUICK, delivered, is_idle, outcomes, uploads

if TYPE_CHECKING:
    from gewe_cache.sandbox import Sandbox
    from tests.concurrency.crews import Crew, Crews
    from tests.concurrency.processes import Process

_ALL = 20
_UNLISTED = Fault.refuse(msg="转发图片失败", data={"code": "-9", "msg": "系统繁忙"})


def _age_entries(database: str, by: timedelta) -> None:
    """Have every entry been uploaded earlier than it was."""
    opened = open_database(database)
    with opened.writer.begin() as connection:
        for row in connection.execute(select(entries.c.id, entries.c.uploaded_at)).all():
            moment = row.uploaded_at - by
            connection.execute(
                update(entries)
                .where(entries.c.id == row.id)
                .values(uploaded_at=moment, upload_began_at=moment, last_used_at=moment)
            )
    opened.dispose()


def _states(database: str) -> list[bool]:
    """Tell of each entry, in order, whether it is retired."""
    opened = open_database(database)
    with opened.reader.connect() as connection:
        retired = [row.retired_at is not None for row in connection.execute(select(entries).order_by(entries.c.id))]
    opened.dispose()
    return retired


def _know(crews: Crews, url: str, database: str) -> None:
    """Have the image uploaded two minutes ago, by a sender that is gone."""
    earlier = crews.make("threads")
    assert earlier.send("wxid_earlier", url).result(PATIENCE).route == "upload"
    _age_entries(database, timedelta(minutes=2))


@pytest.fixture
def aged(crew: Crew, crews: Crews, url: str, shared_file: str) -> Crew:
    """Give a crew whose database knows the image from an upload of two minutes ago."""
    _know(crews, url, shared_file)
    return crew


# --- many refused at once ----------------------------------------------------------------------------------


def test_20_forwards_refused_at_once_are_one_upload(aged: Crew, sandbox: Sandbox, url: str, shared_file: str) -> None:
    sandbox.expire_cdn()
    sends = [aged.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_ALL)]
    assert Counter(outcomes(sends)) == {"upload": 1, "forward": _ALL - 1}
    assert len(uploads(sandbox)) == 2  # the earlier one, and one for all
    assert delivered(sandbox) == sorted(["wxid_earlier", *(f"wxid_{n}" for n in range(_ALL))])
    assert _states(shared_file) == [True, False]
    fell_back = [send.result().fell_back for send in sends]
    assert any(fell_back)
    assert is_idle(aged.parts)


def test_20_refused_on_both_routes_are_one_upload_call(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    sandbox.fail(_UNLISTED, times=None)
    sends = [aged.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_ALL)]
    assert set(outcomes(sends)) == {"GeweRefused"}
    assert len(uploads(sandbox)) == 2
    assert delivered(sandbox) == ["wxid_earlier"]
    assert _states(shared_file) == [False]


def test_20_refused_whose_upload_stays_unknown_upload_no_more(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    sandbox.fail(_UNLISTED, route="forward", times=None)
    sandbox.fail(Fault.reset(delivered=True), route="upload", times=None)
    sends = [aged.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_ALL)]
    assert Counter(outcomes(sends)) == {"DeliveryUnknown": 1, "GeweRefused": _ALL - 1}
    assert len(uploads(sandbox)) == 2
    assert _states(shared_file) == [False]


def test_the_new_entry_is_forwarded_once_and_then_its_refusal_is_raised(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    """GeWe refuses every forward, and takes every upload."""
    sandbox.fail(_UNLISTED, route="forward", times=None)
    sends = [aged.send(f"wxid_{n}", url, app_id=f"wx_sandbox_{n}") for n in range(_ALL)]
    assert Counter(outcomes(sends)) == {"upload": 1, "GeweRefused": _ALL - 1}
    assert len(uploads(sandbox)) == 2
    assert max(Counter(call.to_wxid for call in sandbox.calls).values()) == 2
    assert _states(shared_file) == [True, False]


def test_2_processes_whose_forwards_are_all_refused_upload_once(
    processes: list[Process], sandbox: Sandbox, url: str, shared_database: str
) -> None:
    processes[2].do("send", url=url, sends=[["wx_sandbox_0", "wxid_earlier"]])
    assert processes[2].results() == ["upload"]
    _age_entries(shared_database, timedelta(minutes=2))
    sandbox.expire_cdn()
    for place, process in enumerate(processes[:2]):
        process.order("send", url=url, sends=[[f"wx_sandbox_{place}_{n}", f"wxid_{place}_{n}"] for n in range(10)])
    for process in processes[:2]:
        process.answer()
    routes = Counter(route for process in processes[:2] for route in process.results())
    assert routes == {"upload": 1, "forward": 19}
    assert len(uploads(sandbox)) == 2
    assert _states(shared_database) == [True, False]
    assert sandbox.duplicates() == []


def test_2_processes_refused_on_both_routes_upload_once(
    processes: list[Process], sandbox: Sandbox, url: str, shared_database: str
) -> None:
    processes[2].do("send", url=url, sends=[["wx_sandbox_0", "wxid_earlier"]])
    assert processes[2].results() == ["upload"]
    _age_entries(shared_database, timedelta(minutes=2))
    sandbox.fail(_UNLISTED, times=None)
    for place, process in enumerate(processes[:2]):
        process.order("send", url=url, sends=[[f"wx_sandbox_{place}_{n}", f"wxid_{place}_{n}"] for n in range(10)])
    for process in processes[:2]:
        process.answer()
    assert {route for process in processes[:2] for route in process.results()} == {"GeweRefused"}
    assert len(uploads(sandbox)) == 2
    assert _states(shared_database) == [False]


# --- one after the other -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["both routes", "forwards", "forwards, and uploads stay unknown"])
def test_100_sends_to_a_gewe_that_refuses_are_one_upload(aged: Crew, sandbox: Sandbox, url: str, what: str) -> None:
    sandbox.fail(_UNLISTED, route="forward", times=None)
    if what != "forwards":
        fault = _UNLISTED if what == "both routes" else Fault.reset(delivered=False)
        sandbox.fail(fault, route="upload", times=None)
    kinds = Counter(outcomes([aged.send(f"wxid_{n}", url)])[0] for n in range(100))
    first = {"both routes": "GeweRefused", "forwards": "upload"}.get(what, "DeliveryUnknown")
    assert kinds == Counter([first]) + Counter({"GeweRefused": 99})
    assert len(uploads(sandbox)) == 2


def test_a_minute_later_it_may_be_uploaded_again(crews: Crews, sandbox: Sandbox, url: str, shared_file: str) -> None:
    _know(crews, url, shared_file)
    crew = crews.make("threads", Tuning(fall_back_pause=60.0, front_trust=0.0, unreached_pauses=()))
    sandbox.fail(_UNLISTED, times=None)
    now = datetime.now(UTC)
    seen = []
    for seconds in (0, 1, 59, 61, 62, 119, 123):
        with freeze_time(now + timedelta(seconds=seconds)):
            assert outcomes([crew.send(f"wxid_{seconds}", url)]) == ["GeweRefused"]
        seen.append(len(uploads(sandbox)) - 1)
    assert seen == [1, 1, 1, 2, 2, 2, 3]
    assert _states(shared_file) == [False]


def test_the_minute_holds_without_a_database_too(crews: Crews, sandbox: Sandbox, url: str, shared_file: str) -> None:
    crew = crews.make("threads", Tuning(unreached_pauses=()))
    now = datetime.now(UTC)
    assert outcomes([crew.send("wxid_1", url)]) == ["upload"]
    _drop_keys(shared_file)
    sandbox.fail(_UNLISTED, times=None)
    with freeze_time(now + timedelta(minutes=2)):
        assert set(outcomes([crew.send(f"wxid_{n}", url) for n in range(10)])) == {"GeweRefused"}
        assert len(uploads(sandbox)) == 2
    with freeze_time(now + timedelta(minutes=4)):
        assert outcomes([crew.send("wxid_later", url)]) == ["GeweRefused"]
        assert len(uploads(sandbox)) == 3


def _drop_keys(database: str) -> None:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    connection.execute("DROP TABLE gewe_cache_keys")
    connection.close()


def test_a_fresh_upload_is_no_reason_to_upload_again(crew: Crew, sandbox: Sandbox, url: str) -> None:
    assert outcomes([crew.send("wxid_1", url)]) == ["upload"]
    sandbox.expire_cdn()
    assert set(outcomes([crew.send(f"wxid_{n}", url) for n in range(10)])) == {"GeweRefused"}
    assert len(uploads(sandbox)) == 1


# --- a good entry survives ---------------------------------------------------------------------------------


def test_a_good_entry_survives_a_recipients_unlisted_refusal(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    sandbox.fail(_UNLISTED, to_wxid="wxid_strange", times=None)
    assert outcomes([aged.send("wxid_strange", url)]) == ["GeweRefused"]
    assert [call.route for call in sandbox.calls] == ["upload", "forward", "upload"]
    assert _states(shared_file) == [False]
    assert outcomes([aged.send(f"wxid_{n}", url) for n in range(5)]) == ["forward"] * 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.refuse(msg="HTTP HEADER: X-GEWE-TOKEN=gone 不可用或已过期"), "TokenRefused"),
        (Fault.refuse(data={"code": "-1", "msg": "微信已离线"}), "DeviceUnavailable"),
        (Fault.refuse(data={"code": "-104"}), "RecipientUnavailable"),
        (Fault.refuse(msg="操作过于频繁"), "TooFast"),
    ],
    ids=["token", "device", "recipient", "pace"],
)
def test_a_listed_refusal_is_no_reason_to_upload(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str, fault: Fault, error: str
) -> None:
    sandbox.fail(fault, route="forward")
    assert outcomes([aged.send("wxid_1", url)]) == [error]
    assert len(uploads(sandbox)) == 1
    assert _states(shared_file) == [False]
    assert outcomes([aged.send("wxid_1", url)]) == ["forward"]


def test_an_accepted_upload_without_cdn_information_retires_nothing(
    aged: Crew, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    sandbox.fail(_UNLISTED, route="forward")
    sandbox.fail(Fault.patch(fileId=None), route="upload")
    assert outcomes([aged.send("wxid_1", url)]) == ["upload"]
    assert _states(shared_file) == [False]
    assert outcomes([aged.send("wxid_2", url)]) == ["forward"]


def test_the_database_lost_between_refusal_and_save_costs_the_row_only(
    crews: Crews, sandbox: Sandbox, url: str, shared_file: str
) -> None:
    _know(crews, url, shared_file)
    crew = crews.make("threads", QUICK)
    plan = sandbox.fail(Fault.hold(), route="upload")
    sandbox.expire_cdn()
    send = crew.send("wxid_1", url)
    plan.wait_reached()
    _drop_keys(shared_file)
    plan.release()
    assert outcomes([send]) == ["upload"]
    assert outcomes([crew.send("wxid_2", url)]) == ["forward"]  # from memory
    assert crew.parts.counters.stats().store_failures > 0
