"""Text from outside, made fit to be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache.text import MASK, mask_key, one_line, redact, without_query


@given(st.text(st.characters(exclude_categories=()), max_size=2000))
def test_one_line_is_one_short_line_that_can_be_encoded(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 300
    assert len(line.splitlines()) <= 1
    line.encode()


def test_one_line_of_nothing_is_empty() -> None:
    assert one_line(None) == ""
    assert one_line(0) == "0"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert one_line("x" * 301) == "x" * 299 + "…"
    assert one_line("x" * 300) == "x" * 300


def test_a_masked_key_cannot_be_used() -> None:
    assert mask_key("294774c8ac2ca8f8114e4d58d2ba78a5") == "2947…"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a.png?sign=secret&x=1", "https://h/a.png?…"),
        ("https://h/a.png", "https://h/a.png"),
        ("https://h/a.png#part", "https://h/a.png"),
        ("https://h/a\u202eb.png", "https://h/a b.png"),
        (None, "(no URL)"),
    ],
)
def test_a_url_is_shown_without_its_query(url: str | None, shown: str) -> None:
    assert without_query(url) == shown


def test_redact_reaches_everything_and_changes_nothing_in_place() -> None:
    value = {"a secret-1 b": ["x", {"deep": "SECRET-1secret-1"}, 5, None, True], "other": "Key-2"}
    assert redact(value, ("secret-1", "key-2")) == {
        f"a {MASK} b": ["x", {"deep": f"{MASK}{MASK}"}, 5, None, True],
        "other": MASK,
    }
    assert "a secret-1 b" in value


def test_redact_takes_a_secret_literally() -> None:
    assert redact("a.c abc a.c", ("a.c",)) == f"{MASK} abc {MASK}"
    assert redact("(token\\", ("(token\\",)) == MASK
