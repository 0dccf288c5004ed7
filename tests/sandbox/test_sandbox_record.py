"""Overlaps and duplicates, judged from the record."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache.sandbox import Call, Fault, Sandbox
from gewe_cache.sandbox.record import overlapping

Post = Callable[..., httpx.Response]


def test_overlapping_calls_of_one_device_are_found(sandbox: Sandbox, upload: Post) -> None:
    plan = sandbox.fail(Fault.hold(), times=3)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(upload, appId=app) for app in ("wx_sandbox_1", "wx_sandbox_1", "wx_sandbox_2")]
        plan.wait_reached(count=3)
        plan.release()
        for call in calls:
            call.result()
    upload()

    ((first, second),) = sandbox.overlaps()
    assert first.app_id == second.app_id == "wx_sandbox_1"
    assert first.number < second.number


def test_calls_one_after_the_other_do_not_overlap(sandbox: Sandbox, upload: Post) -> None:
    for _ in range(10):
        upload()
    assert sandbox.overlaps() == []


def test_duplicates(sandbox: Sandbox, upload: Post, forward: Post, xml_of: Callable[..., str]) -> None:
    data = upload(toWxid="a").json()["data"]
    forward(xml_of(data), toWxid="b")
    assert sandbox.duplicates() == []
    forward(xml_of(data), toWxid="a")
    upload(toWxid="c", imgUrl=sandbox.make_image("other.png", seed=5))

    (duplicate,) = sandbox.duplicates()
    assert (duplicate.to_wxid, duplicate.md5) == ("a", data["md5"])
    assert [delivery.route for delivery in duplicate.deliveries] == ["upload", "forward"]


def test_clear_forgets_all_but_cdn_information(
    sandbox: Sandbox, upload: Post, forward: Post, xml_of: Callable[..., str]
) -> None:
    data = upload().json()["data"]
    sandbox.fail(Fault.refuse(), times=None)
    sandbox.clear()
    assert (sandbox.calls, sandbox.deliveries, sandbox.plans) == ([], [], [])
    assert forward(xml_of(data)).json()["ret"] == 200
    assert [call.number for call in sandbox.calls] == [2]


def test_a_call_that_was_cleared_away_under_way_stays_forgotten(sandbox: Sandbox, upload: Post) -> None:
    plan = sandbox.fail(Fault.hold())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(upload)
        plan.wait_reached()
        sandbox.clear()
        assert call.result(20).json()["ret"] == 200
    assert sandbox.calls == []
    assert len(sandbox.deliveries) == 1


def test_snapshots_are_copies(sandbox: Sandbox, upload: Post) -> None:
    upload()
    sandbox.calls.clear()
    sandbox.deliveries.clear()
    assert (len(sandbox.calls), len(sandbox.deliveries)) == (1, 1)


spans = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 20), st.integers(1, 10) | st.none()),
    max_size=12,
)


@given(spans)
def test_overlaps_are_what_comparing_all_pairs_finds(rows: list[tuple[str | None, int, int | None]]) -> None:
    calls = [
        Call(number, "upload", app, None, None, True, start, None if length is None else start + length)  # noqa: FBT003
        for number, (app, start, length) in enumerate(rows)
    ]
    expected = {
        frozenset((one.number, two.number))
        for one in calls
        for two in calls
        if one.number < two.number and one.app_id == two.app_id and one.app_id is not None and meet(one, two)
    }
    found = [frozenset((one.number, two.number)) for one, two in overlapping(calls)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def meet(one: Call, two: Call) -> bool:
    ends = [float("inf") if call.ended_at is None else call.ended_at for call in (one, two)]
    return max(one.started_at, two.started_at) < min(ends)
