"""Text from outside, made fit to be shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache.keys import normalise_url
from gewe_cache.text import MASK, mask_key, one_line, readable_url, redact, without_query


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/%E6%B5%B7%e6%8a%a5.png?a=%E4", "https://h/海报.png?a=%E4"),
        ("https://h/%25E6%2F%20%41.png", "https://h/%25E6%2F%20%41.png"),
        ("https://h/a%E2%80%AEb%C2%A0%C2%9B.png", "https://h/a%E2%80%AEb%C2%A0%C2%9B.png"),  # unseen, or a blank
        ("https://h/%F0%9F%98%80/%ED%A0%80", "https://h/\U0001f600/%ED%A0%80"),
    ],
)
def test_only_escaped_letters_beyond_ascii_are_shown_as_they_are_read(url: str, shown: str) -> None:
    assert readable_url(url) == shown


@given(st.text(max_size=40))
def test_a_readable_url_is_still_the_same_url(text: str) -> None:
    url = f"https://example.com/{quote(text, errors='replace')}?{quote(text, errors='replace')}"
    assert normalise_url(readable_url(url)) == normalise_url(url)


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
