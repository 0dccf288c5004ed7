"""The admin page's parts that need no server: sessions, attempts, the chart, words."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time
from starlette_admin.i18n import set_locale

from gewe_cache.server import admin
from gewe_cache.server.admin import words
from gewe_cache.server.admin.attempts import MOST_OF_ALL, MOST_OF_ONE, WINDOW_SECONDS, Attempts
from gewe_cache.server.admin.chart import HOURS, draw
from gewe_cache.server.admin.chinese import CHINESE
from gewe_cache.server.admin.sessions import LIFETIME, Sessions
from gewe_cache.store.reports import Savings
from gewe_cache.store.usage import Counts

_NOW = datetime(2026, 3, 10, 12, 34, tzinfo=UTC)
_FOLDER = Path(admin.__file__).parent


def test_a_session_expires() -> None:
    sessions = Sessions("a password")
    with freeze_time(_NOW) as clock:
        cookie = sessions.begin()
        clock.tick(LIFETIME - timedelta(seconds=1))
        assert sessions.is_valid(cookie)
        clock.tick(timedelta(seconds=2))
        assert not sessions.is_valid(cookie)


def test_passwords_are_compared_whole() -> None:
    sessions = Sessions("Пароль 密码")
    assert sessions.is_password("Пароль 密码")
    assert [sessions.is_password(each) for each in ("", "Пароль", "пароль 密码", "\udc80")] == [False] * 4
    assert "Пароль" not in repr(vars(sessions))


def test_an_address_waits_after_too_many_wrong_passwords() -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    for _ in range(MOST_OF_ONE):
        assert attempts.seconds_to_wait("192.0.2.1") == 0
        attempts.note_failure("192.0.2.1")
        now += 1
    assert attempts.seconds_to_wait("192.0.2.1") == WINDOW_SECONDS - MOST_OF_ONE
    assert attempts.seconds_to_wait("192.0.2.2") == 0
    now = WINDOW_SECONDS
    assert attempts.seconds_to_wait("192.0.2.1") == 0
    attempts.note_failure("192.0.2.1")
    assert attempts.seconds_to_wait("192.0.2.1") == 1  # the window moves on
    attempts.note_success("192.0.2.1")
    assert attempts.seconds_to_wait("192.0.2.1") == 0


def test_all_addresses_together_wait_too() -> None:
    attempts = Attempts(lambda: 0.0)
    for number in range(MOST_OF_ALL):
        attempts.note_failure(f"192.0.2.{number}")
    assert attempts.seconds_to_wait("198.51.100.1") == WINDOW_SECONDS


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "unix", False),
    ],
)
def test_who_has_a_network_of_addresses_counts_as_one(one: str, other: str, *, are_one: bool) -> None:
    attempts = Attempts(lambda: 0.0)
    for _ in range(MOST_OF_ONE):
        attempts.note_failure(one)
    assert (attempts.seconds_to_wait(other) > 0) is are_one


def test_the_chart_shows_the_last_day() -> None:
    hour = _NOW.replace(minute=0)
    chart = draw(
        {
            hour: Savings(Counts(forwards=30, uploads=7)),
            hour - timedelta(hours=HOURS - 1): Savings(Counts(forwards=50)),
            hour - timedelta(hours=HOURS): Savings(Counts(forwards=9999)),
        },
        _NOW,
    )
    assert (len(chart.bars), chart.top, chart.is_empty) == (24, 50, False)
    first, last = chart.bars[0], chart.bars[-1]
    assert (first.forwards, first.forwards_height, first.uploads_height) == (50, 100.0, 0.0)
    assert (last.hour, last.forwards_height, last.uploads_height) == (hour, 60.0, 14.0)
    assert last.x + last.width <= 100
    assert [bar.hour.hour for bar in chart.bars if bar.is_labelled] == [18, 0, 6, 12]
    assert draw({}, _NOW).is_empty


@pytest.mark.parametrize(("most", "top"), [(0, 5), (5, 5), (6, 10), (11, 20), (21, 50), (51, 100), (1001, 2000)])
def test_the_chart_is_as_high_as_it_has_to_be(most: int, top: int) -> None:
    assert draw({_NOW.replace(minute=0): Savings(Counts(uploads=most))}, _NOW).top == top


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("de,zh;q=0.1", "zh"),
        ("ZH-Hant-TW", "zh"),
        ("fr", "en"),
        ("en;q=x, zh;q=", "zh"),
        ("*", "en"),
    ],
)
def test_the_language_is_the_browsers(accepted: str, language: str) -> None:
    assert words.choose_language(accepted) == language


def _texts() -> set[str]:
    """Give every text that the page says, from the sources."""
    sources = [*_FOLDER.glob("*.py"), *_FOLDER.glob("templates/**/*.html")]
    said = re.compile(r"""\b(?:say|later|cell\("\w+",)\s*\(?\s*(["'])(.+?)\1""")
    return {found[1] for path in sources for found in said.findall(path.read_text(encoding="utf-8"))}


def test_every_text_is_in_both_languages() -> None:
    texts = _texts()
    assert "Overview" in texts
    assert texts - CHINESE.keys() == set()
    said_by_name = {"fresh", "expired", "retired", "running", "paused", "done", "cancelled", "upload", "forward"}
    said_by_name |= {"sent", "refused", "unknown", "unreached", "sending", "pending"}
    assert CHINESE.keys() - texts - said_by_name == set()


def test_both_languages_name_the_same_values() -> None:
    for english, chinese in CHINESE.items():
        assert _names(english) == _names(chinese), english


def test_ages_are_worded_in_chinese() -> None:
    try:
        set_locale("zh")
        assert words.say_age(timedelta(days=2, hours=5)) == "2天 5小时"
        assert words.say("{age} ago", age=words.say_age(90)) == "1分 30秒前"
    finally:
        set_locale("en")


def _names(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}
