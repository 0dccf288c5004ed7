"""The error tree: drawn whole, worded to be acted on, safe to move about, and free of secrets."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import gewe_cache
from gewe_cache import (
    AlreadyBroadcast,
    DeliveryUnknown,
    GeweCacheError,
    GeweRefused,
    GeweUnreachable,
    ImageRefused,
    InvalidImage,
    InvalidXml,
    PublishFailed,
    SchemaOutdated,
    SchemaUnknown,
    StoreError,
    errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def kinds_below(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds_below(kind)


def drawn_tree() -> dict[str, str | None]:
    """Read the tree in the module's docstring: each name with its parent's."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    drawing = (errors.__doc__ or "").partition("::")[2]
    for line in drawing.splitlines():
        match = re.match(r"    ((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        parents[match[2]] = path[depth - 1] if depth else None
    return parents


REFUSALS: list[type[GeweRefused]] = [kind for kind in kinds_below(GeweRefused) if issubclass(kind, GeweRefused)]
OTHERS: list[type[GeweCacheError]] = [
    GeweCacheError,
    GeweUnreachable,
    InvalidImage,
    InvalidXml,
    PublishFailed,
    StoreError,
    SchemaOutdated,
    SchemaUnknown,
]
EXAMPLES: list[GeweCacheError] = [
    *(kind(500, "发送图片失败", {"code": "-1", "msg": "…"}) for kind in REFUSALS),
    *(kind("Nothing was sent: why. Do this.") for kind in OTHERS),
    DeliveryUnknown("wxid_friend", "wx_1", "upload", STARTED_AT, "no whole answer within 120 s"),
    AlreadyBroadcast(3, (7, 12)),
]


def test_the_drawn_tree_is_complete_and_true() -> None:
    real = {kind.__name__: kind.__base__ for kind in kinds_below(GeweCacheError)}
    drawn = drawn_tree()
    assert drawn.keys() == real.keys()
    for name, parent in drawn.items():
        base = real[name]
        assert base is not None
        assert (parent or "Exception") == base.__name__
    assert {type(example).__name__ for example in EXAMPLES} == drawn.keys(), "every kind has an example in these tests"


def test_what_the_drawing_says_of_value_errors_is_true() -> None:
    for name in drawn_tree():
        kind = getattr(errors, name)
        assert issubclass(kind, ValueError) == (f"{name} (ValueError)" in (errors.__doc__ or ""))


def test_every_error_is_exported() -> None:
    for kind in kinds_below(GeweCacheError):
        assert getattr(gewe_cache, kind.__name__) is kind
        assert kind.__name__ in gewe_cache.__all__


def test_all_names_every_public_name_and_no_other() -> None:
    assert sorted(set(gewe_cache.__all__)) == gewe_cache.__all__
    assert set(gewe_cache.__all__) <= set(dir(gewe_cache))
    for name in gewe_cache.__all__:
        assert getattr(gewe_cache, name).__name__ == name  # each is loaded when it is first used
    public = {
        name
        for name, value in vars(gewe_cache).items()
        if not name.startswith("_") and callable(value) and value.__module__.startswith("gewe_cache")
    }
    assert public == set(gewe_cache.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Poster'"):
        gewe_cache.Poster  # noqa: B018


def test_a_repeated_broadcast_says_to_how_many_and_what_to_do() -> None:
    error = AlreadyBroadcast(3, (7, 12))
    for part in (
        "Nothing was sent",
        "within 24 hours",
        "3 of these",
        "broadcast 7, 12",
        "broadcast resume 7",
        "again=",
    ):
        assert part in str(error)
    assert (error.recipients, error.broadcast_ids) == (3, (7, 12))


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_says_what_gewe_said_that_nothing_was_sent_and_what_to_do(kind: type[GeweRefused]) -> None:
    text = str(kind(500, "发送图片失败", {"code": "-219", "msg": "原因", "detail": "x"}))
    for part in ("ret 500", "发送图片失败", "-219", "原因", "Nothing was sent", kind.advice):
        assert part in text
    assert len(kind.advice) > len("Nothing was sent. ")
    assert "\n" not in text


def test_each_refusal_has_its_own_advice() -> None:
    assert len({kind.advice for kind in REFUSALS}) == len(REFUSALS)


@pytest.mark.parametrize("data", [None, "text", [1], {}, {"code": None, "msg": None}])
def test_a_refusal_without_words_says_so(data: object) -> None:
    assert str(GeweRefused(500, None, data)).startswith("GeWe refused with ret 500: no reason given. Nothing was sent.")


def test_a_refusal_prints_as_one_line_whatever_gewe_says() -> None:
    text = str(GeweRefused(500, "a\nb\x1b[31m\u202e" + "長" * 10_000, {"msg": ["x\r\ny"], "code": {"a": "\x00"}}))
    assert text.isprintable()
    assert len(text) < 1500


def test_an_unknown_delivery_says_that_it_may_have_been_sent_and_where_to_look() -> None:
    text = str(DeliveryUnknown("wxid_friend", "wx_1", "upload", STARTED_AT, "no whole answer within 120 s"))
    for part in ("unknown whether", "wxid_friend", "wx_1", "upload", "2026-03-01 12:00:05 UTC", "within 120 s"):
        assert part in text
    assert "not sent again by itself" in text
    assert "Look into that chat" in text
    assert "()" not in str(DeliveryUnknown("wxid_friend", "wx_1", "upload", STARTED_AT))


def test_an_unknown_delivery_keeps_what_the_design_names() -> None:
    error = DeliveryUnknown("wxid_friend", "wx_1", "forward", STARTED_AT)
    found = (error.to_wxid, error.app_id, error.route, error.started_at, error.reason)
    assert found == ("wxid_friend", "wx_1", "forward", STARTED_AT, "")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_a_pickle(error: GeweCacheError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert_same(again, error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_a_copy(error: GeweCacheError) -> None:
    error = copy.copy(error)  # pytest's parameters are shared: leave them as they are
    error.add_note("a note")
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert_same(again, error)


def test_a_deep_copy_shares_nothing() -> None:
    error = ImageRefused(500, "m", {"nested": ["x"]})
    again = copy.deepcopy(error)
    again.data["nested"].append("y")
    assert error.data == {"nested": ["x"]}


def assert_same(again: GeweCacheError, error: GeweCacheError) -> None:
    assert again is not error
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_after_which_errors_a_caller_may_send_again_shows_in_the_tree() -> None:
    """A retry loop catches (GeweRefused, GeweUnreachable) and must never catch an unknown delivery by it."""
    assert not issubclass(DeliveryUnknown, GeweRefused | GeweUnreachable | ValueError | OSError)
