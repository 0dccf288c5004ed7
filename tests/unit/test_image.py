"""What callers pass: every unusable image is refused by name, before anything is sent."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache import Image, InvalidImage
from gewe_cache.image import as_image
from tests.unit.making import AES_KEY, FILE_ID, an_entry

MD5 = hashlib.md5(b"data", usedforsecurity=False).hexdigest()

BAD_URLS = {
    "empty": "",
    "blank": "   ",
    "a tab": "\t",
    "no scheme": "example.com/a.png",
    "scheme-relative": "//example.com/a.png",
    "a path": "/tmp/a.png",  # noqa: S108 - not opened
    "ftp": "ftp://example.com/a.png",
    "file": "file:///etc/passwd",
    "data": "data:image/png;base64,AAAA",
    "javascript": "javascript:alert(1)",
    "no host": "https:///a.png",
    "no slashes": "https:example.com/a.png",
    "one slash": "https:/example.com/a.png",
    "only a query": "https://?a=1",
    "only a port": "https://:80/",
    "backslashes": "https:\\\\example.com\\a.png",
    "backslash host": "https://example.com\\.evil.example/a.png",
    "backslash credentials": "https://example.com\\@evil.example/a.png",
    "user": "https://user@example.com/a.png",
    "user and password": "https://user:secret@example.com/a.png",
    "empty credentials": "https://@example.com/a.png",
    "newline": "https://example.com/a\n.png",
    "carriage return": "https://example.com/\ra.png",
    "newline at the end": "https://example.com/a.png\n",
    "newline in the scheme": "ht\ntps://example.com/a.png",
    "space at the end": "https://example.com/a.png ",
    "space before": " https://example.com/a.png",
    "no-break space before": "\u00a0https://example.com/a.png",
    "NUL": "https://example.com/\x00a.png",
    "escape": "https://example.com/\x1b[31m.png",
    "DEL": "https://example.com/\x7f.png",
    "C1": "https://example.com/\x85.png",
    "line separator": "https://example.com/\u2028.png",
    "space in the host": "https://exam ple.com/a.png",
    "ideographic space in the host": "https://exam\u3000ple.com/a.png",
    "a host that folds to a slash": "https://example.com\u2100evil/a.png",
    "half a surrogate pair": "https://example.com/\ud83d.png",
    "port out of range": "https://example.com:65536/a.png",
    "port of letters": "https://example.com:http/a.png",
    "negative port": "https://example.com:-1/a.png",
    "port in other digits": "https://example.com:８０/a.png",
    "open bracket": "https://[2001:db8::1/a.png",
    "no address in brackets": "https://[example]/a.png",
    "over-long": "https://example.com/" + "a" * 8192,
}


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS.keys())
def test_an_unusable_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidImage, match=r"^url: ") as caught:
        Image(url=url)
    assert "secret" not in str(caught.value), "credentials are not repeated"
    assert len(str(caught.value)) < 300
    with pytest.raises(InvalidImage, match=r"^url: "):
        as_image(url)
    with pytest.raises(InvalidImage, match=r"^url: "):
        Image.from_bytes(b"data", url=url)


@pytest.mark.parametrize("url", [b"https://example.com/a.png", 5, ["https://example.com/a.png"], object()])
def test_a_url_that_is_no_string_is_refused(url: object) -> None:
    with pytest.raises(InvalidImage, match=r"^url: "):
        Image(url=url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "HTTP://EXAMPLE.COM",
        "https://example.com:8443/a?b=c#d",
        "http://[2001:db8::1]:8080/a.png",
        "https://例え.jp/ポスター.png",
        "https://example.com/a b'\"&<>]]>;.png",
        "https://example.com/user@host?mail=a@b",
        "https://example.com/" + "a" * (8192 - 20),
    ],
)
def test_a_usable_url_is_kept_as_it_is(url: str) -> None:
    assert Image(url=url).url == url
    assert as_image(url) == Image(url=url)


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_an_image_or_a_refusal(text: str) -> None:
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        try:
            image = Image(url=url)
        except InvalidImage:
            continue
        assert image.url == url
        assert not set(url) & {"\n", "\r", "\x00"}


@pytest.mark.parametrize(
    "md5",
    [
        "",
        " ",
        MD5[:-1],
        MD5 + "0",
        f" {MD5}",
        f"{MD5}\n",
        "g" * 32,
        "０" * 32,
        f"md5:{MD5}",
        "x" * 10_000,
        5,
        b"0" * 32,
    ],
)
def test_a_malformed_md5_is_refused_by_name(md5: object) -> None:
    with pytest.raises(InvalidImage, match=r"^md5: .*32 hex digits"):
        Image(md5=md5)  # type: ignore[arg-type]


def test_an_md5_in_capitals_is_the_same_md5() -> None:
    assert Image(md5=MD5.upper()) == Image(md5=MD5)


def test_an_image_of_nothing_is_refused_with_what_to_pass() -> None:
    with pytest.raises(InvalidImage, match=r"pass url=.*md5="):
        Image()


@pytest.mark.parametrize("image", [None, 5, b"https://example.com/a.png", Path("a.png"), {"url": "https://h/a"}])
def test_what_is_no_image_is_refused(image: object) -> None:
    with pytest.raises(InvalidImage, match=r"^image: pass a URL string or an Image, not "):
        as_image(image)


def test_an_image_passes_through() -> None:
    image = Image(md5=MD5)
    assert as_image(image) is image


HOSTILE_NAMES = {
    "quotes": 'it\'s "quoted".png',
    "ampersand": "a&b&amp;.png",
    "end of CDATA": "a]]>b.png",
    "newline": "a\nb.png",
    "markup": "<img onerror=x>.png",
    "percent": "100%25.png",
    "non-ASCII": "海报 ポスター \U0001f600.png",
    "backslash": "a\\..\\b.png",
    "blank": " ",
    "dash": "-rf.png",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES.keys())
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"data")
    assert Image.from_file(file) == Image.from_file(str(file)) == Image(md5=MD5)
    assert Image.from_file(file, url="https://h/a") == Image(url="https://h/a", md5=MD5)


@pytest.mark.parametrize("name", ["x" * 10_000, "missing.png", ".", "a\x00b"])
def test_a_file_that_cannot_be_read_is_the_systems_own_error(tmp_path: Path, name: str) -> None:
    with pytest.raises((OSError, ValueError)) as caught:
        Image.from_file(tmp_path / name)
    assert not isinstance(caught.value, InvalidImage)


def test_a_large_and_an_empty_file(tmp_path: Path) -> None:
    large = b"0123456789abcdef" * 200_000
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "empty").write_bytes(b"")
    assert Image.from_file(tmp_path / "large") == Image.from_bytes(large)
    assert Image.from_file(tmp_path / "empty").md5 == "d41d8cd98f00b204e9800998ecf8427e"


def test_bytes_are_named_by_their_md5() -> None:
    assert Image.from_bytes(b"data") == Image(md5=MD5)
    assert Image.from_bytes(b"data", url="https://h/a") == Image(url="https://h/a", md5=MD5)


def test_an_entry_shows_no_key() -> None:
    entry = an_entry()
    for text in (repr(entry), str(entry), f"{entry}", repr([entry]), repr({"entry": entry})):
        assert AES_KEY not in text
        assert AES_KEY[:4] in text
        assert FILE_ID not in text
    assert AES_KEY not in repr(dataclasses.fields(entry))


def test_an_entry_survives_a_pickle() -> None:
    entry = an_entry()
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("aes_key", value) for value in ("", AES_KEY.upper(), AES_KEY[:-1], AES_KEY + "\n", "é" * 32, None, 5)),
        *(("file_id", value) for value in ("", "305", FILE_ID.upper(), "zz", 'a"b&c', "30" * 1025, None, b"30")),
        *(("length", value) for value in (0, -1, 2**63, True, 1.0, "1")),
        *((side, value) for side in ("width", "height") for value in (0, -1, 2**31, True, 1.5, "1")),
        *(("md5", value) for value in ("", "x", AES_KEY.upper(), 5)),
        *(("uploaded_at", value) for value in (None, "2026-01-01", datetime(2026, 1, 1))),  # noqa: DTZ001 - naive
        *(("expires_at", value) for value in (None, datetime(2026, 1, 1))),  # noqa: DTZ001
        ("upload_began_at", datetime(2026, 1, 1)),  # noqa: DTZ001
    ],
)
def test_a_corrupt_entry_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} is malformed$"):
        an_entry(**{field: value})


@pytest.mark.parametrize("field", ["length", "width", "height", "md5", "entry_id", "upload_began_at"])
def test_what_is_not_known_may_be_missing(field: str) -> None:
    assert getattr(an_entry(**{field: None}), field) is None
