"""Settings: from arguments, from the environment, and refused by name where they are unusable."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache import ImageSender
from gewe_cache.settings import (
    DEFAULT_BASE_URL,
    Settings,
    Tuning,
    check_base_url,
    check_name,
    check_token,
    default_database_file,
    find_database,
    find_ttl,
    make_settings,
    parse_duration,
)

TOKEN = "5f3c-very-secret-token"  # noqa: S105 - made up


def settings(token: str = TOKEN, app_id: str | None = "wx_1", **changes: Any) -> Settings:
    arguments: dict[str, Any] = {
        "base_url": None,
        "token_header": "X-GEWE-TOKEN",
        "database": None,
        "scope": None,
        "ttl": None,
        "timeout": None,
        "ignore_query": (),
        "tuning": None,
    }
    return make_settings(token, app_id, **(arguments | changes))


def test_the_defaults_are_the_designs() -> None:
    made = settings(app_id=None)
    assert made.app_id is None
    assert made.base_url == DEFAULT_BASE_URL == "http://api.geweapi.com/gewe/v2/api"
    assert made.ttl == timedelta(days=3)
    assert (made.upload_timeout, made.forward_timeout) == (120.0, 30.0)
    assert made.database == f"sqlite:///{default_database_file().as_posix()}"
    assert made.scope == made.account
    assert made.ignore_query == frozenset()


def test_the_tuning_is_the_designs() -> None:
    tuning = settings().tuning
    assert (tuning.lease_seconds, tuning.lease_renewal) == (15, 5)
    assert (tuning.refusal_memory, tuning.fall_back_pause, tuning.store_pause) == (30, 60, 5)
    assert (tuning.front_trust, tuning.usage_interval) == (2, 5)


def test_the_environment_fills_in_what_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GEWE_APP_ID": "wx_env",
        "GEWE_BASE_URL": "http://env.example/v2/api/",
        "GEWE_CACHE_DATABASE": "sqlite:///env.db",
        "GEWE_CACHE_SCOPE": "env-scope",
        "GEWE_CACHE_TTL": "12h",
    }.items():
        monkeypatch.setenv(name, value)
    made = settings(app_id=None)
    assert (made.app_id, made.base_url) == ("wx_env", "http://env.example/v2/api")
    assert (made.database, made.scope, made.ttl) == ("sqlite:///env.db", "env-scope", timedelta(hours=12))
    passed = settings(
        app_id="wx_2", base_url="http://x.example", database="sqlite://", scope="s", ttl=timedelta(minutes=1)
    )
    assert (passed.app_id, passed.base_url) == ("wx_2", "http://x.example")
    assert (passed.database, passed.scope, passed.ttl) == ("sqlite://", "s", timedelta(minutes=1))


@pytest.mark.parametrize(
    "name", ["GEWE_APP_ID", "GEWE_BASE_URL", "GEWE_CACHE_DATABASE", "GEWE_CACHE_SCOPE", "GEWE_CACHE_TTL"]
)
def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = settings(app_id=None)
    monkeypatch.setenv(name, "")
    assert settings(app_id=None) == before


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("GEWE_APP_ID", "a b", "app_id"),
        ("GEWE_BASE_URL", "ftp://x", "base_url"),
        ("GEWE_CACHE_SCOPE", " ", "scope"),
        ("GEWE_CACHE_TTL", "soon", "GEWE_CACHE_TTL"),
    ],
)
def test_an_unusable_variable_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{named}: ") as caught:
        settings(app_id=None)
    assert TOKEN not in str(caught.value)


BAD_TOKENS = ["", " ", f"{TOKEN} ", f"{TOKEN}\n", f"{TOKEN}\r\nX: y", f"{TOKEN}漢", f"{TOKEN}\x00", TOKEN * 20, None, 5]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_an_unusable_token_is_refused_and_never_repeated(token: Any) -> None:
    for check in (check_token, settings, ImageSender):
        with pytest.raises(ValueError, match=r"^token: ") as caught:
            check(token)
        assert TOKEN not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "changes",
    [
        {"app_id": ""},
        {"app_id": " "},
        {"app_id": "wx 1"},
        {"scope": ""},
        {"scope": "a\nb"},
        {"scope": "s" * 257},
        {"base_url": ""},
        {"base_url": "api.geweapi.com"},
        {"base_url": "ftp://api.geweapi.com"},
        {"base_url": "http://"},
        {"base_url": "http://user:pw@h/api"},
        {"base_url": "http://h/api?x=1"},
        {"base_url": "http://h/api#x"},
        {"base_url": "http://h:0/api"},
        {"base_url": "http://h:99999/api"},
        {"base_url": "http://h/a b"},
        {"base_url": "http://h/\n"},
        {"base_url": "http://[::1/"},
        {"base_url": "http://例え.jp/api"},
        {"base_url": 5},
        {"base_url": b"http://h/api"},
        {"token_header": ""},
        {"token_header": "X Token"},
        {"token_header": "X-Token: x\r\n"},
        {"token_header": None},
        {"ttl": timedelta(0)},
        {"ttl": timedelta(seconds=-1)},
        {"ttl": timedelta.max},
        {"ttl": 3},
        {"ttl": "3d"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": 1e10},
        {"timeout": True},
        {"timeout": "30"},
        {"ignore_query": "sign"},
        {"ignore_query": ("sign", "")},
        {"ignore_query": (5,)},
        {"ignore_query": None},
        {"ignore_query": 5},
    ],
    ids=repr,
)
def test_an_unusable_setting_is_refused_by_name(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        settings(**changes)
    assert TOKEN not in str(caught.value)
    assert "pw" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^{name}: "):
        ImageSender(TOKEN, **changes)


@pytest.mark.parametrize(
    "database",
    [
        "mysql://u:pw@h/d",
        "nonsense",
        "oracle://pw",
        "://",
        "sqlite://cache.db",
        "sqlite:///cache.db?mode=ro",
        "sqlite:///file:cache.db?mode=ro",
        "sqlite:///file:cache.db?timeout=soon&uri=true",
        "postgresql://u:pw@h:x/d",
        "postgresql://u:pw@h:99999/d",
        "postgresql://u:pw@h/d?sslmod=require",
    ],
)
def test_an_unusable_database_is_refused_without_its_password(database: str) -> None:
    with pytest.raises(ValueError, match=r"^database: ") as caught:
        ImageSender(TOKEN, database=database)
    assert "pw" not in str(caught.value).replace("PASSWORD", "")


def test_settings_show_no_secret() -> None:
    made = settings(database="postgresql://user:hidden-pw@h/d")
    for text in (repr(made), str(made)):
        assert TOKEN not in text
        assert "hidden-pw" not in text
        assert made.scope in text


def test_one_timeout_sets_both() -> None:
    made = settings(timeout=7)
    assert (made.upload_timeout, made.forward_timeout) == (7.0, 7.0)


@pytest.mark.parametrize("names", [["sign"], ("sign", "sign"), {"sign"}, {"sign": 1}.keys()])
def test_names_of_parameters_come_in_any_collection(names: Any) -> None:
    assert settings(ignore_query=names).ignore_query == frozenset({"sign"})


@pytest.mark.parametrize(
    "base_url", ["http://h:2531/v2/api", "https://h/gewe/v2/api", "http://[::1]:80/v2/api", "http://h"]
)
def test_a_base_url_loses_only_slashes_at_its_end(base_url: str) -> None:
    assert check_base_url(base_url) == check_base_url(f"{base_url}/") == base_url


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("3d", timedelta(days=3)),
        (" 3 D ", timedelta(days=3)),
        ("36500d", timedelta(days=36500)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration("--ttl", text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "d",
        "0d",
        "-1d",
        "1.5d",
        "3w",
        "1d12h",
        "３d",
        "36501d",
        "9" * 12 + "d",
        "9" * 5000 + "d",
        "3d\n4d",
        "inf",
    ],
)
def test_bad_durations_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--ttl: write a duration such as"):
        parse_duration("--ttl", text)


@given(st.text(max_size=20))
def test_no_text_makes_anything_but_a_duration_or_a_refusal(text: str) -> None:
    try:
        duration = parse_duration("--ttl", text)
    except ValueError as error:
        assert str(error).startswith("--ttl: ")  # noqa: PT017 - either outcome is right
    else:
        assert timedelta(0) < duration <= timedelta(days=36500)


def test_ttl_and_database_are_found_in_the_designs_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_ttl() == timedelta(days=3)
    monkeypatch.setenv("GEWE_CACHE_TTL", "1h")
    monkeypatch.setenv("GEWE_CACHE_DATABASE", "sqlite:///env.db")
    assert (find_ttl(), find_ttl(timedelta(days=1))) == (timedelta(hours=1), timedelta(days=1))
    assert (find_database(), find_database("sqlite://")) == ("sqlite:///env.db", "sqlite://")


@pytest.mark.parametrize("field_name", ["to_wxid", "app_id", "scope"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\t",
        "\u3000",
        "\u00a0",
        "wxid friend",
        " wxid_friend",
        "wxid_friend\n",
        "wxid\x00",
        "wxid\x1b[0m",
        "wxid\x7f",
        "wxid\x85",
        "wxid\u2028",
        "wxid\u200b",
        "wxid\u202e",
        "wxid\ud800",
        "w" * 257,
        None,
        5,
        b"wxid_friend",
    ],
)
def test_bad_names_are_refused_by_name(field_name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field_name}: pass a string of 1 to 256 printable characters") as caught:
        check_name(field_name, value)
    assert "Nothing was sent" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["wxid_friend", "34757816141@chatroom", "filehelper", "我的朋友", "a'b\"c&d<e>", "w" * 256]
)
def test_good_names_are_kept(value: str) -> None:
    assert check_name("to_wxid", value) == value


def test_bad_recipients_devices_and_images_are_refused_before_anything_is_touched() -> None:
    with ImageSender(TOKEN, "wx_1", database="sqlite:////dev/null/nowhere.db", base_url="http://127.0.0.1:1") as sender:
        for to_wxid in ("", " ", "a b", "x" * 257):
            with pytest.raises(ValueError, match=r"^to_wxid: "):
                sender.send_image(to_wxid, "https://h/a")
        with pytest.raises(ValueError, match=r"^app_id: "):
            sender.send_image("wxid_friend", "https://h/a", app_id=" ")
        with pytest.raises(ValueError, match=r"^url: "):
            sender.send_image("wxid_friend", "ftp://h/a")
        assert sender.stats().store_failures == 0
    with (
        ImageSender(TOKEN, database="sqlite://") as sender,
        pytest.raises(ValueError, match=r"^app_id: pass the device's id .*GEWE_APP_ID"),
    ):
        sender.send_image("wxid_friend", "https://h/a")


def test_every_wait_can_be_tuned() -> None:
    tuning = Tuning(lease_seconds=1, unreached_pauses=())
    assert settings(tuning=tuning).tuning is tuning
