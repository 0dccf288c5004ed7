"""The XML: built in the exact shape of GeWe's sample, read from whatever a callback may carry."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gewe_cache import CachedImage, InvalidXml
from gewe_cache.gewe.image_xml import MAX_XML_LENGTH, build_image_xml, read_image_xml, thumbnail_sides
from tests.unit.making import AES_KEY, FILE_ID, MD5, UPLOADED_AT, an_entry

# From GeWe's documentation of forwardImage, to the letter.
SAMPLE = """<?xml version="1.0"?>
<msg>
	<img aeskey="294774c8ac2ca8f8114e4d58d2ba78a5" encryver="1" cdnthumbaeskey="294774c8ac2ca8f8114e4d58d2ba78a5" \
cdnthumburl="3057020100044b304902010002043904752002032f7d6d02046bb5bade020465937656042436626431373937632d613430642d\
346137662d626230352d3832613335353935333130630204051818020201000405004c543d00" cdnthumblength="2253" \
cdnthumbheight="120" cdnthumbwidth="111" cdnmidheight="0" cdnmidwidth="0" cdnhdheight="0" cdnhdwidth="0" \
cdnmidimgurl="3057020100044b304902010002043904752002032f7d6d02046bb5bade020465937656042436626431373937632d613430642d\
346137662d626230352d3832613335353935333130630204051818020201000405004c543d00" length="4061" \
md5="799ee4beed51720525232aef6a0d2ec4" />
	<platform_signature></platform_signature>
	<imgdatahash></imgdatahash>
</msg>
"""

_HEX_PAIRS = st.binary(min_size=1, max_size=200).map(bytes.hex)
_HEX_32 = st.binary(min_size=16, max_size=16).map(bytes.hex)
_SIDES = st.none() | st.integers(min_value=1, max_value=2**31 - 1)


def img(xml: str) -> dict[str, str]:
    element = ET.fromstring(xml).find("img")  # noqa: S314 - our own XML
    assert element is not None
    return dict(element.attrib)


def message(attributes: str = f'aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"', inside: str = "") -> str:
    return f'<?xml version="1.0"?>\n<msg><img {attributes}>{inside}</img></msg>'


def test_the_samples_own_values_give_the_sample_back() -> None:
    assert build_image_xml(an_entry()) == SAMPLE.replace('" />', '"/>')


def test_the_attributes_come_in_the_samples_order() -> None:
    assert list(img(build_image_xml(an_entry(aes_key="0" * 32, file_id="30")))) == list(img(SAMPLE))


def test_the_sample_can_be_read_back() -> None:
    found = read_image_xml(SAMPLE)
    assert (found.aes_key, found.file_id, found.length, found.md5) == (AES_KEY, FILE_ID, 4061, MD5)
    assert (found.width, found.height) == (None, None)


def test_what_is_not_known_is_written_as_nothing() -> None:
    attributes = img(build_image_xml(an_entry(length=None, width=None, height=None, md5=None)))
    assert (attributes["length"], attributes["md5"]) == ("0", "")
    assert (attributes["cdnthumbwidth"], attributes["cdnthumbheight"]) == ("120", "120")


@pytest.mark.parametrize(
    ("width", "height", "sides"),
    [
        (370, 400, (111, 120)),
        (111, 120, (111, 120)),
        (400, 370, (120, 111)),
        (800, 1200, (80, 120)),
        (1920, 1080, (120, 68)),
        (1280, 714, (120, 67)),
        (1200, 1700, (85, 120)),
        (400, 400, (120, 120)),
        (1, 1, (120, 120)),
        (1, 2, (60, 120)),
        (1, 10_000, (1, 120)),
        (10_000, 1, (120, 1)),
        (1, 2**31 - 1, (1, 120)),
        (2**31 - 1, 2**31 - 1, (120, 120)),
        (None, None, (120, 120)),
        (None, 400, (120, 120)),
        (400, None, (120, 120)),
    ],
)
def test_the_thumbnails_sides(width: int | None, height: int | None, sides: tuple[int, int]) -> None:
    assert thumbnail_sides(width, height) == sides
    attributes = img(build_image_xml(an_entry(width=width, height=height)))
    assert (int(attributes["cdnthumbwidth"]), int(attributes["cdnthumbheight"])) == sides


@given(_SIDES, _SIDES)
def test_a_thumbnail_is_never_larger_than_120_nor_smaller_than_1(width: int | None, height: int | None) -> None:
    sides = thumbnail_sides(width, height)
    assert max(sides) == 120
    assert min(sides) >= 1


@given(_HEX_32, _HEX_PAIRS, st.none() | st.integers(1, 2**63 - 1), _SIDES, _SIDES, st.none() | _HEX_32)
def test_what_is_built_can_be_read(
    aes_key: str, file_id: str, length: int | None, width: int | None, height: int | None, md5: str | None
) -> None:
    entry = CachedImage(aes_key, file_id, length, width, height, md5, UPLOADED_AT, UPLOADED_AT + timedelta(days=1))
    xml = build_image_xml(entry)
    found = read_image_xml(xml)
    assert (found.aes_key, found.file_id, found.length, found.md5) == (aes_key, file_id, length, md5)
    assert re.sub(r'"[^"]*"', '""', xml) == re.sub(r'"[^"]*"', '""', SAMPLE.replace('" />', '"/>'))


@pytest.mark.parametrize(
    "prefix",
    ["", "wxid_abc123:\n", "wxid_abc123:\r\n", "a-b_c@x:\n", "\n wxid_abc123: \n\n", "海报:\n", "\ufeff", "  \n\t"],
)
def test_a_senders_name_before_the_xml_is_accepted(prefix: str) -> None:
    assert read_image_xml(prefix + SAMPLE).aes_key == AES_KEY
    assert read_image_xml(prefix + message()).file_id == FILE_ID


@pytest.mark.parametrize("prefix", ["wxid_abc123:", "two words:\n", "wxid_a:\nwxid_b:\n", "x" * 300 + ":\n", ":\n"])
def test_other_text_before_the_xml_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidXml):
        read_image_xml(prefix + SAMPLE)


def test_a_real_message_with_all_that_it_may_carry() -> None:
    received = f"""wxid_sender:
<?xml version="1.0" encoding="UTF-8"?>
<msg>
    <img aeskey="{AES_KEY.upper()}" encryver="0" cdnthumbaeskey="{AES_KEY}" cdnthumburl="30ff" cdnthumblength="4213"
      cdnthumbheight="150" cdnthumbwidth="75" cdnmidheight="400" cdnmidwidth="370" cdnhdheight="0" cdnhdwidth="0"
      cdnmidimgurl="{FILE_ID.upper()}" length="4061" cdnbigimgurl="30aa" hdlength="99999" hevc_mid_size="3000"
      originsourcemd5="{"0" * 32}" md5="{MD5.upper()}">
        <secHashInfoBase64>eyJwaGFzaCI6IiJ9</secHashInfoBase64>
        <live><duration>0</duration><img aeskey="x"/></live>
    </img>
    <platform_signature/>
    <imgdatahash/>
    <ImgSourceInfo><ImgSourceUrl/><BizType>0</BizType></ImgSourceInfo>
</msg>
"""
    found = read_image_xml(received)
    assert (found.aes_key, found.file_id, found.length, found.md5) == (AES_KEY, FILE_ID, 4061, MD5)
    assert (found.width, found.height) == (370, 400)


def test_only_a_large_version_is_taken_with_its_own_length() -> None:
    found = read_image_xml(message(f'aeskey="{AES_KEY}" cdnbigimgurl="{FILE_ID}" hdlength="7" length="5"'))
    assert (found.file_id, found.length) == (FILE_ID, 7)


@pytest.mark.parametrize("size", ["", "0", "-5", "1.5", "abc", "１２", " 5", "9" * 19, "9" * 5000])
def test_a_size_that_is_none_is_unknown(size: str) -> None:
    base = f'aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"'
    found = read_image_xml(message(f'{base} length="{size}" cdnhdwidth="{size}" cdnmidheight="{size}"'))
    assert (found.length, found.width, found.height) == (None, None, None)


@pytest.mark.parametrize("md5", ["", "x" * 32, MD5[:-1], MD5 + "0"])
def test_a_malformed_md5_is_unknown(md5: str) -> None:
    assert read_image_xml(message(f'aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}" md5="{md5}"')).md5 is None


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
NO_MESSAGE: dict[str, str] = {
    "empty": "",
    "blank": " \n",
    "text": "hello",
    "JSON": '{"ret":200}',
    "truncated": SAMPLE[:200],
    "two roots": message() + "<msg/>",
    "an entity bomb": f'<!DOCTYPE msg [<!ENTITY e0 "x">{BOMB}]><msg><img aeskey="&e9;"/></msg>',
    "an external entity": '<!DOCTYPE msg [<!ENTITY x SYSTEM "file:///etc/passwd">]><msg><img aeskey="&x;"/></msg>',
    "a DTD": '<!DOCTYPE msg SYSTEM "http://example.com/msg.dtd">' + message().partition("\n")[2],
    "an undefined entity": message(f'aeskey="{AES_KEY}" cdnmidimgurl="&x;"'),
    "a bare ampersand": message(f'aeskey="{AES_KEY}" cdnmidimgurl="a&b"'),
    "an attribute twice": message(f'aeskey="{AES_KEY}" aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"'),
    "NUL": message() + "\x00",
    "a control character": message(inside="\x08"),
    "half a surrogate pair": message(inside="\ud83d"),
    "another root": f'<xml><img aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"/></xml>',
    "img as the root": f'<img aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"/>',
    "a text message": "<msg><appmsg><title>hello</title></appmsg></msg>",
    "a video": f'<msg><videomsg aeskey="{AES_KEY}" cdnvideourl="{FILE_ID}"/></msg>',
    "img further down": f'<msg><a><img aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"/></a></msg>',
    "img of another namespace": f'<msg xmlns="x"><img aeskey="{AES_KEY}" cdnmidimgurl="{FILE_ID}"/></msg>',
    "no attributes": "<msg><img/></msg>",
    "no key": message(f'cdnmidimgurl="{FILE_ID}"'),
    "an empty key": message(f'aeskey="" cdnmidimgurl="{FILE_ID}"'),
    "a short key": message(f'aeskey="{AES_KEY[:-1]}" cdnmidimgurl="{FILE_ID}"'),
    "a key that is not hex": message(f'aeskey="{"x" * 32}" cdnmidimgurl="{FILE_ID}"'),
    "no file id": message(f'aeskey="{AES_KEY}"'),
    "only a thumbnail": message(f'aeskey="{AES_KEY}" cdnthumburl="{FILE_ID}"'),
    "an empty file id": message(f'aeskey="{AES_KEY}" cdnmidimgurl="" cdnbigimgurl=""'),
    "a file id that is a URL": message(f'aeskey="{AES_KEY}" cdnmidimgurl="http://example.com/a"'),
    "an odd file id": message(f'aeskey="{AES_KEY}" cdnmidimgurl="305"'),
    "an over-long file id": message(f'aeskey="{AES_KEY}" cdnmidimgurl="{"30" * 1025}"'),
    "huge": message(inside="x" * MAX_XML_LENGTH),
    "deep": "<msg>" + "<a>" * 30_000,
}


@pytest.mark.parametrize("xml", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
def test_what_is_no_image_message_is_refused(xml: str) -> None:
    with pytest.raises(InvalidXml) as caught:
        read_image_xml(xml)
    assert AES_KEY not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "the cause may show the XML"


@pytest.mark.parametrize("xml", [None, 5, SAMPLE.encode(), ["<msg/>"]])
def test_what_is_no_string_is_refused(xml: object) -> None:
    with pytest.raises(InvalidXml, match=r"string"):
        read_image_xml(xml)  # type: ignore[arg-type]


def test_a_deep_but_whole_message_is_read() -> None:
    depth = 10_000
    assert read_image_xml(message(inside="<a>" * depth + "</a>" * depth)).aes_key == AES_KEY


@given(st.text(max_size=300))
def test_no_text_makes_anything_but_an_image_or_a_refusal(text: str) -> None:
    for xml in (text, f"<msg>{text}</msg>", f"<msg><img {text}/></msg>", f"{text}\n{SAMPLE}"):
        try:
            read_image_xml(xml)
        except InvalidXml:
            continue
