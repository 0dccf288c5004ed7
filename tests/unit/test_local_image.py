"""A local image: its name, its type, and that it is what it was."""

from __future__ import annotations

import hashlib
import pickle
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gewe_cache import Image, InvalidImage, LocalImage
from gewe_cache.local_image import sniff

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + b"poster" * 1000
MD5 = hashlib.md5(PNG).hexdigest()  # noqa: S324 - a name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "海报 1.png"
    path.write_bytes(PNG)
    return path


def _local(image: Image) -> LocalImage:
    assert image.local is not None
    return image.local


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"GIF87a", "image/gif"),
        (b"RIFF\n\n\0\0WEBPVP8 ", "image/webp"),
        (b"BM" + struct.pack("<IHHII", 70, 0, 0, 54, 40), "image/bmp"),
        (b"BMW builds cars, and this is a text.", "application/octet-stream"),
        (b"RIFF\0\0\0\0WAVE", "application/octet-stream"),
        (b" \x89PNG\r\n\x1a\n", "application/octet-stream"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_the_first_bytes_tell_the_type(head: bytes, content_type: str) -> None:
    assert sniff(head[:32]) == content_type


def test_of_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    image = Image.from_file(file.name)
    monkeypatch.chdir(file.parent.parent)
    local = _local(image)
    assert (image.md5, image.url) == (MD5, None)
    assert (local.md5, local.size, local.content_type, local.path) == (MD5, len(PNG), "image/png", file)
    assert local.name == f"{MD5}.png"
    assert local.read() == PNG
    with local.open() as opened:
        assert opened.read() == PNG
    local.check()


def test_of_bytes_as_they_are_when_they_are_passed() -> None:
    changing = bytearray(PNG)
    local = _local(Image.from_bytes(changing))
    changing.clear()
    assert (local.md5, local.path, local.read()) == (MD5, None, PNG)
    with local.open() as opened:
        assert opened.read() == PNG


def test_its_name_has_no_extension_where_its_type_is_not_known() -> None:
    local = _local(Image.from_bytes(b"?"))
    assert local.name == local.md5


def test_a_file_that_has_changed_is_noticed(file: Path) -> None:
    local = _local(Image.from_file(file))
    file.write_bytes(PNG + b"!")
    for look in (local.check, local.read):
        with pytest.raises(InvalidImage, match=r"has changed since it was named .* Nothing was sent\."):
            look()
    file.unlink()
    for look in (local.check, local.read):
        with pytest.raises(InvalidImage, match=r"cannot be read .* Nothing was sent\."):
            look()


def test_the_content_has_no_part_in_what_an_image_is(file: Path) -> None:
    by_file, by_bytes, by_md5 = Image.from_file(file), Image.from_bytes(PNG), Image(md5=MD5)
    assert by_file == by_bytes == by_md5
    assert len({by_file, by_bytes, by_md5}) == 1
    assert repr(by_file) == repr(by_bytes) == repr(by_md5) == f"Image(url=None, md5='{MD5}')"
    assert "poster" not in repr(by_bytes.local)


def test_the_content_goes_along_where_an_image_goes(file: Path) -> None:
    for image in (Image.from_file(file), Image.from_bytes(PNG)):
        moved = pickle.loads(pickle.dumps(image))  # noqa: S301 - our own
        assert moved == image
        assert _local(moved).read() == PNG
        assert _local(replace(image, url="https://example.com/p.png")).read() == PNG
