"""To start the same broadcast twice is the costliest mistake: a start looks whom the image reached within 24 hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gewe_cache import AlreadyBroadcast, Image, ImageSender, Pace
from gewe_cache.broadcast.recipients import from_items
from gewe_cache.broadcast.service import broadcasts_of
from gewe_cache.sandbox import Fault
from gewe_cache.store import broadcasts
from gewe_cache.store.ledger import make_lanes, take_turn

if TYPE_CHECKING:
    from tests.broadcast.kit import Bench

A, B, C = "1@chatroom", "wxid_b", "wxid_c"
MD5, OTHER_MD5 = "a" * 32, "b" * 32
NOT_A_MEMBER = {"code": "-219", "msg": "not in the group"}


def start(bench: Bench, *names: str, image: Image | None = None, device: str | None = None) -> tuple[int, set[int]]:
    """Try to start; give how many stand against it and by which broadcasts, or ``(0, set())`` and have it open."""
    items = from_items(names, device or bench.sandbox.app_id)
    plan = bench.opened.prepare(image or Image(url=bench.poster), items, Pace.none())
    if not plan.repeats.recipients:
        bench.opened.open(plan)
        return 0, set()
    with pytest.raises(AlreadyBroadcast) as caught:
        bench.opened.open(plan)
    assert caught.value.recipients == plan.repeats.recipients
    with pytest.raises(ValueError, match="There is no broadcast"):
        bench.opened.find(plan.broadcast_id)
    return caught.value.recipients, set(caught.value.broadcast_ids)


def test_whoever_has_the_image_stands_against_it(bench: Bench) -> None:
    first, second = bench.begin([A, B]), bench.begin([C])
    bench.run(first.id)
    bench.run(second.id)
    assert start(bench, B, "wxid_new") == (1, {first.id})
    assert start(bench, A, B, C) == (3, {first.id, second.id})
    assert start(bench, A, device="wx_sandbox_other") == (1, {first.id})
    assert start(bench, "wxid_new") == (0, set())
    assert bench.reached() == [A, B, C]


def test_who_may_have_it_or_is_to_get_it_counts_and_who_was_refused_does_not(bench: Bench) -> None:
    bench.cache_poster()
    bench.sandbox.fail(Fault.refuse(data=NOT_A_MEMBER), to_wxid=A)
    bench.sandbox.fail(Fault.close(delivered=False), to_wxid=B)
    tried = bench.begin([A, B])
    bench.run(tried.id)
    assert bench.states(tried.id) == {A: "refused", B: "unknown"}
    waiting = bench.begin([C])
    assert start(bench, A, B, C) == (2, {tried.id, waiting.id})
    with bench.database.writer.begin() as connection:
        broadcasts.cancel(connection, waiting.id)
    assert start(bench, A, C) == (0, set())


def test_for_twenty_four_hours(bench: Bench) -> None:
    bench.run(bench.begin([A]).id)
    bench.clock.advance(24 * 3600 - 60)
    assert start(bench, A)[0] == 1
    bench.clock.advance(120)
    assert start(bench, A)[0] == 0


def test_again_is_the_only_way_around_it(bench: Bench) -> None:
    bench.run(bench.begin([A]).id)
    bench.run(bench.begin([A], again=True).id)
    assert bench.reached() == [A, A]


@pytest.mark.parametrize(
    ("query", "first", "second", "against"),
    [
        ("", None, None, 1),
        ("", None, MD5, 1),
        ("", MD5, None, 1),
        ("", MD5, OTHER_MD5, 0),
        ("?v=2", MD5, MD5, 1),
        ("?v=2", MD5, None, 0),
        ("?v=2", None, None, 0),
    ],
)
def test_an_image_is_known_by_its_md5_where_both_have_one_and_else_by_its_url(
    bench: Bench, query: str, first: str | None, second: str | None, against: int
) -> None:
    assert start(bench, A, image=Image(url=bench.poster, md5=first)) == (0, set())
    assert start(bench, A, image=Image(url=bench.poster + query, md5=second))[0] == against


def test_another_token_and_scope_make_no_difference(bench: Bench, shared_file: str) -> None:
    bench.run(bench.begin([A]).id)
    with (
        ImageSender(
            "another", bench.sandbox.app_id, base_url="http://127.0.0.1:1/v2/api", database=shared_file
        ) as other,
        broadcasts_of(other._live(), clock=bench.clock) as opened,
    ):
        plan = opened.prepare(Image(url=bench.poster), from_items([A], bench.sandbox.app_id), Pace.none())
        assert plan.repeats.recipients == 1
        with pytest.raises(AlreadyBroadcast):
            opened.open(plan)


def test_who_is_sent_to_at_this_moment_counts_however_long_ago_it_began(bench: Bench) -> None:
    found = bench.begin([A])
    worker = bench.opened._worker(found, Pace.none())
    with bench.database.writer.begin() as connection:
        make_lanes(connection, worker, bench.clock.now())
        take_turn(connection, worker, bench.clock.now(), [], room=1, stopped=[], busy=[], tend=True)
    bench.clock.advance(48 * 3600)
    assert start(bench, A) == (1, {found.id})
