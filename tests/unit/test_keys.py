"""Keys: equal addresses share one, nothing else does; scopes keep accounts apart."""

from __future__ import annotations

import dataclasses
import hashlib
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache import Image, InvalidImage
from gewe_cache.keys import Key, default_scope, keys_of, lookup_key, normalise_url

MD5, OTHER_MD5 = "0" * 32, "f" * 32
NONE: frozenset[str] = frozenset()

_PARTS = st.text(
    st.sampled_from("abcXYZ019-._~%/:;=&+!$'(),*@ [] 2eE3fF4äß漢字\u00a0\U0001f600<>\"{}|\\^`"), max_size=30
)
_HOSTS = st.sampled_from(["example.com", "EXAMPLE.com", "[2001:DB8::1]", "xn--fiq228c.example", "例え.jp", "127.0.0.1"])
_URLS = st.builds(
    "{}://{}{}/{}{}{}".format,
    st.sampled_from(["http", "HTTPS", "https"]),
    _HOSTS,
    st.sampled_from(["", ":80", ":443", ":8080", ":00443", ":"]),
    _PARTS,
    st.one_of(st.just(""), _PARTS.map("?{}".format)),
    st.one_of(st.just(""), _PARTS.map("#{}".format)),
)


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("HTTPS://Example.COM/Poster.PNG", "https://example.com/Poster.PNG"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:0443/a", "https://example.com/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("https://example.com:8443/a", "https://example.com:8443/a"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://example.com/a#top", "https://example.com/a"),
        ("https://example.com/a?", "https://example.com/a"),
        ("https://example.com/%7Ea/%2e%41%5a", "https://example.com/~a/.AZ"),
        ("https://example.com/%e4%bd%a0", "https://example.com/%E4%BD%A0"),
        ("https://example.com/你.png", "https://example.com/%E4%BD%A0.png"),
        ("https://example.com/%2f%2F/a%3Fb", "https://example.com/%2F%2F/a%3Fb"),
        ('https://example.com/a b"<>{}|\\^`', "https://example.com/a%20b%22%3C%3E%7B%7D%7C%5C%5E%60"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://example.com/%zz%%32%65", "https://example.com/%25zz%252e"),
        ("https://example.com/a?b=2&a=1&b=1", "https://example.com/a?b=2&a=1&b=1"),
        ("https://example.com/a?b=%7e+%2B&&c", "https://example.com/a?b=~+%2B&&c"),
        ("https://example.com/a;p=1/../b", "https://example.com/a;p=1/../b"),
        ("http://[2001:DB8::A]:80/a", "http://[2001:db8::a]/a"),
        ("http://[2001:DB8::A]:8080/a", "http://[2001:db8::a]:8080/a"),
        ("https://BÜCHER.example/a", "https://bücher.example/a"),
    ],
)
def test_normalisation(url: str, normalised: str) -> None:
    assert normalise_url(url) == normalised


@given(_URLS)
def test_normalising_twice_changes_nothing(url: str) -> None:
    once = normalise_url(url)
    assert normalise_url(once) == once


@given(_URLS)
def test_a_normalised_url_still_names_the_same_thing(url: str) -> None:
    before, after = urlsplit(url), urlsplit(normalise_url(url))
    assert after.hostname == before.hostname
    assert (after.port or 443) in {before.port or 443, 443}
    assert after.fragment == ""
    assert unquote(after.path, errors="surrogateescape") == unquote(before.path, errors="surrogateescape") or "/"
    assert after.query.count("&") == before.query.count("&")


@given(st.text(st.sampled_from("aB?#&=/: ß"), max_size=20), st.text(st.sampled_from("aB?#&=/: ß"), max_size=20))
def test_a_difference_of_path_or_query_is_a_difference_of_keys(one: str, other: str) -> None:
    first, second = urlsplit(f"https://h/{one}"), urlsplit(f"https://h/{other}")
    same = normalise_url(f"https://h/{one}") == normalise_url(f"https://h/{other}")
    assert same == ((first.path, first.query) == (second.path, second.query))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?sign=x&w=1&expires=2", "?w=1"),
        ("?sign=x&expires=2", ""),
        ("?w=1&si%67n=x", "?w=1"),
        ("?w=1&sign", "?w=1"),
        ("?Sign=x", "?Sign=x"),
        ("?signature=x&w=sign", "?signature=x&w=sign"),
        ("?a+b=1&w=1", "?w=1"),
        ("?b=2&sign=1&a=1&sign=2&b=1", "?b=2&a=1&b=1"),
    ],
)
def test_named_query_parameters_are_left_out(query: str, left: str) -> None:
    ignored = frozenset({"sign", "expires", "a b"})
    assert normalise_url(f"https://h/p{query}", ignored) == f"https://h/p{left}"


def test_ignored_parameters_do_not_leave_the_path() -> None:
    assert normalise_url("https://h/sign=1?sign=2", frozenset({"sign"})) == "https://h/sign=1"


def test_the_longest_url_has_a_key_and_a_longer_one_no_image() -> None:
    stem = "https://example.com/"
    longest = stem + "漢" * (8192 - len(stem))
    key = lookup_key(Image(url=longest), "s", NONE)
    assert len(key.digest) == 32
    assert key.value == stem + "%E6%BC%A2" * (8192 - len(stem))
    with pytest.raises(InvalidImage, match=r"url: it has 8193 characters, at most 8192"):
        Image(url=longest + "a")


def test_the_md5_decides_over_the_url() -> None:
    by_md5 = lookup_key(Image(md5=MD5), "s", NONE)
    assert lookup_key(Image(url="https://h/a", md5=MD5), "s", NONE) == by_md5
    assert lookup_key(Image(url="https://h/b", md5=MD5.upper()), "s", NONE) == by_md5
    assert lookup_key(Image(url="https://h/a"), "s", NONE) != by_md5
    assert by_md5.kind == "md5"


def test_an_upload_is_found_by_all_that_is_known_of_it() -> None:
    image = Image(url="https://h/a?sign=1", md5=MD5)
    keys = keys_of(image, OTHER_MD5, "s", frozenset({"sign"}))
    assert {(key.kind, key.value) for key in keys} == {("url", "https://h/a"), ("md5", MD5), ("md5", OTHER_MD5)}
    assert lookup_key(image, "s", frozenset({"sign"})) in keys
    assert [key.digest for key in keys] == sorted(key.digest for key in keys), (
        "one order, so that writers cannot deadlock"
    )


@pytest.mark.parametrize(
    ("image", "gewe_md5", "number"),
    [
        (Image(url="https://h/a"), None, 1),
        (Image(url="https://h/a"), MD5, 2),
        (Image(md5=MD5), MD5, 1),
        (Image(md5=MD5), None, 1),
        (Image(url="https://h/a", md5=MD5), MD5, 2),
    ],
)
def test_the_number_of_keys(image: Image, gewe_md5: str | None, number: int) -> None:
    assert len(keys_of(image, gewe_md5, "s", NONE)) == number


def test_the_users_md5_and_gewes_md5_share_a_kind() -> None:
    assert lookup_key(Image(md5=OTHER_MD5), "s", NONE) in keys_of(Image(url="https://h/a"), OTHER_MD5, "s", NONE)


@given(
    st.tuples(st.sampled_from(["url", "md5"]), st.text(max_size=8), st.text(max_size=8)),
    st.tuples(st.sampled_from(["url", "md5"]), st.text(max_size=8), st.text(max_size=8)),
)
def test_parts_of_a_key_cannot_run_into_each_other(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (Key.of(*one).digest == Key.of(*other).digest) == (one == other)  # type: ignore[arg-type]


def test_moving_a_border_between_parts_makes_another_key() -> None:
    digests = {Key.of("url", "ab", "c").digest, Key.of("url", "a", "bc").digest, Key.of("url", "abc", "").digest}
    assert len(digests) == 3


def test_a_key_is_the_documented_hash() -> None:
    """Entries outlive versions of the package: a change here loses every cached image, so it must be meant."""
    parts = [b"1", b"url", b"scope", b"https://h/a"]
    expected = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    assert Key.of("url", "scope", "https://h/a").digest == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("http://a.example/api", "token"), ("http://a.example/api", "token2")),
        (("http://a.example/api", "token"), ("http://b.example/api", "token")),
        (("http://a.example/api", "token"), ("http://a.example:2531/api", "token")),
        (("http://a.example/api", "Token"), ("http://a.example/api", "token")),
        (("http://a.example", "1token"), ("http://a.example1", "token")),
    ],
)
def test_tokens_and_hosts_have_scopes_of_their_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert default_scope(*one) != default_scope(*other)


@pytest.mark.parametrize("base_url", ["http://A.example/x", "https://a.example:443/y/z", "http://a.example:80"])
def test_only_the_host_and_the_token_make_the_scope(base_url: str) -> None:
    assert default_scope(base_url, "token") == default_scope("http://a.example/x", "token")


def test_a_token_cannot_be_seen_in_its_scope() -> None:
    token = "6a1f0c9e-token"  # noqa: S105 - made up
    scope = default_scope("http://a.example", token)
    assert len(scope) == 24
    assert int(scope, 16) >= 0
    assert token not in scope
    for guess in (token, f"a.example{token}", f"a.example:{token}"):
        assert not hashlib.sha256(guess.encode()).hexdigest().startswith(scope), "not the bare hash of a token"


def test_a_key_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Key.of("md5", "s", MD5).value = OTHER_MD5  # type: ignore[misc]
