"""How the adapters tell the end of a send, and for how long they remember one that is unknown."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

from gewe_cache import DeliveryUnknown, GeweUnreachable, ImageRefused, SchemaUnknown
from gewe_cache.adapters import endings
from gewe_cache.adapters.endings import Call, Endings, read_call, words_of

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
TIMED_OUT = DeliveryUnknown("wxid_1", "wx_1", "upload", NOW, "no answer within 120 s")


def a_call(to_wxid: str = "wxid_1", url: str = "https://example.com/poster.png") -> Call:
    call = read_call("wx_1", to_wxid, url)
    assert call is not None
    return call


def test_an_unknown_end_is_remembered_for_ten_minutes_of_the_same_call() -> None:
    with freeze_time(NOW) as clock:
        told = Endings()
        told.ending_of(a_call(), TIMED_OUT, NOW)
        for other in (a_call("wxid_2"), a_call(url="https://example.com/other.png")):
            assert told.unknown_of(other) is None
        clock.tick(timedelta(minutes=9, seconds=59))
        assert str(told.unknown_of(a_call())) == str(TIMED_OUT)
        clock.tick(timedelta(seconds=1))
        assert told.unknown_of(a_call()) is None


def test_the_same_image_at_a_url_signed_anew_is_the_same_call() -> None:
    told = Endings(("sign",))
    told.ending_of(a_call(url="https://example.com/poster.png?v=1&sign=a"), TIMED_OUT, NOW)
    assert told.unknown_of(a_call(url="https://EXAMPLE.com/poster.png?v=1&sign=b")) is not None
    assert told.unknown_of(a_call(url="https://example.com/poster.png?v=2&sign=a")) is None


@pytest.mark.parametrize("error", [ImageRefused(500, "发送图片失败"), GeweUnreachable("Nothing was sent.")])
def test_where_nothing_was_sent_the_call_may_be_made_again(error: ImageRefused | GeweUnreachable) -> None:
    told = Endings()
    assert told.ending_of(a_call(), error, NOW) is error
    assert told.unknown_of(a_call()) is None


def test_a_database_that_cannot_be_used_sent_nothing() -> None:
    told = Endings()
    ending = told.ending_of(a_call(), SchemaUnknown("Nothing was sent. Run: pip"), NOW)
    assert (type(ending), str(ending)) == (GeweUnreachable, "Nothing was sent. Run: pip")
    assert told.unknown_of(a_call()) is None


@pytest.mark.parametrize("error", [KeyError("secret"), asyncio.CancelledError()])
def test_what_was_not_foreseen_may_be_out(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    told = Endings()
    ending = told.ending_of(a_call(), error, NOW)
    assert isinstance(ending, DeliveryUnknown)
    assert (ending.to_wxid, ending.app_id, ending.started_at) == ("wxid_1", "wx_1", NOW)
    assert type(error).__name__ in words_of(ending)
    assert "For 10 minutes" in words_of(ending)
    assert "secret" not in words_of(ending)
    assert told.unknown_of(a_call()) is ending
    logged = [record.levelno for record in caplog.records]
    assert logged == ([logging.ERROR] if isinstance(error, Exception) else [])


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "_MOST_UNKNOWN", 2)
    told, calls = Endings(), [a_call(f"wxid_{number}") for number in range(3)]
    for call in calls:
        told.ending_of(call, TIMED_OUT, NOW)
    assert [told.unknown_of(call) is not None for call in calls] == [False, True, True]


@pytest.mark.parametrize(
    "call", [("", "wxid_1", "https://a/b"), ("wx_1", None, "https://a/b"), ("wx_1", "wxid_1", b"\x89PNG")]
)
def test_what_no_sender_can_make_is_no_call(call: tuple[object, object, object]) -> None:
    assert read_call(*call) is None
