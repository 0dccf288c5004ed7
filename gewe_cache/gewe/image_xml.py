"""The XML of an image message: built to forward an entry, read to learn one.

The shape is that of the sample in GeWe's documentation of ``forwardImage``: ``aeskey`` and
``cdnthumbaeskey`` are both the upload's ``aesKey``, ``cdnthumburl`` and ``cdnmidimgurl`` both its
``fileId``. The upload does not tell the thumbnail's size; in received messages its long side is 120 and its
sides are in the image's own ratio.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.dom.minidom import Document, Element

from gewe_cache.errors import InvalidXml
from gewe_cache.gewe.wire import CdnInfo
from gewe_cache.image import MAX_FILE_ID_LENGTH, MAX_INT64, MAX_SIDE, CachedImage

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

MAX_XML_LENGTH = 100_000

_THUMBNAIL_SIDE = 120
_SAMPLE_THUMBNAIL_LENGTH = "2253"
_SENDER_PREFIX = re.compile(r"\s*[^\s<>:]{1,256}:\s*\n")
_AES_KEY = re.compile(r"[0-9a-fA-F]{32}")
_FILE_ID = re.compile(r"(?:[0-9a-fA-F]{2})+")
_SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)


@lru_cache(maxsize=1024)
def build_image_xml(image: CachedImage) -> str:
    """Build the XML that forwards an entry. Unknown sizes are written as 0, an unknown md5 as empty."""
    document = Document()
    message = document.createElement("msg")
    message.appendChild(_image_element(document, image))
    for name in ("platform_signature", "imgdatahash"):
        child = document.createElement(name)
        child.appendChild(document.createTextNode(""))  # written as <a></a>, as in the sample
        message.appendChild(child)
    return '<?xml version="1.0"?>\n' + message.toprettyxml(indent="\t", newl="\n")


def thumbnail_sides(width: int | None, height: int | None) -> tuple[int, int]:
    """Give a thumbnail's width and height in pixels: the long side 120, in the image's own ratio."""
    if width is None or height is None:
        return _THUMBNAIL_SIDE, _THUMBNAIL_SIDE
    long_side = max(width, height)
    return _scaled(width, long_side), _scaled(height, long_side)


def read_image_xml(xml: str) -> CdnInfo:
    """Read the CDN information out of a received image message.

    The text may begin with ``wxid_…:`` and a line break, as it does in groups.

    Raises:
        InvalidXml: it is no XML, no image message, or lacks a key or a file id.
    """
    attributes = _image_attributes(xml)
    aes_key = attributes.get("aeskey", "")
    if not _AES_KEY.fullmatch(aes_key):
        msg = "The XML has no usable aeskey (32 hex digits); such an image cannot be forwarded."
        raise InvalidXml(msg)
    file_id, length = _file_id_and_length(attributes)
    md5 = attributes.get("md5", "")
    return CdnInfo(
        aes_key=aes_key.lower(),
        file_id=file_id,
        length=length,
        width=_first_size(attributes, "cdnhdwidth", "cdnmidwidth"),
        height=_first_size(attributes, "cdnhdheight", "cdnmidheight"),
        md5=md5.lower() if _AES_KEY.fullmatch(md5) else None,
    )


def _image_element(document: Document, image: CachedImage) -> Element:
    width, height = thumbnail_sides(image.width, image.height)
    attributes = {
        "aeskey": image.aes_key,
        "encryver": "1",
        "cdnthumbaeskey": image.aes_key,
        "cdnthumburl": image.file_id,
        "cdnthumblength": _SAMPLE_THUMBNAIL_LENGTH,
        "cdnthumbheight": str(height),
        "cdnthumbwidth": str(width),
        "cdnmidheight": "0",
        "cdnmidwidth": "0",
        "cdnhdheight": "0",
        "cdnhdwidth": "0",
        "cdnmidimgurl": image.file_id,
        "length": str(image.length or 0),
        "md5": image.md5 or "",
    }
    element = document.createElement("img")
    for name, value in attributes.items():
        element.setAttribute(name, value)
    return element


def _scaled(side: int, long_side: int) -> int:
    return max(1, round(side * _THUMBNAIL_SIDE / long_side))


def _image_attributes(xml: str) -> dict[str, str]:
    if not isinstance(xml, str) or len(xml) > MAX_XML_LENGTH:
        msg = f"Pass the XML as a string of at most {MAX_XML_LENGTH} characters."
        raise InvalidXml(msg)
    image = _parse(_SENDER_PREFIX.sub("", xml, count=1) if _SENDER_PREFIX.match(xml) else xml).find("img")
    if image is None:
        msg = "The XML is not an image message: it has no <img>."
        raise InvalidXml(msg)
    return dict(image.attrib)


def _parse(xml: str) -> ET.Element:
    # Slow to load, and a bot that only sends reads no XML.
    from defusedxml import DefusedXmlException  # noqa: PLC0415
    from defusedxml.ElementTree import ParseError, fromstring  # noqa: PLC0415

    try:
        root: ET.Element = fromstring(xml.strip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        msg = f"This is not the XML of a message: {type(error).__name__}. Pass it as it was received."
        raise InvalidXml(msg) from None
    if root.tag != "msg":
        msg = "The XML is not a message: its root is not <msg>."
        raise InvalidXml(msg)
    return root


def _file_id_and_length(attributes: dict[str, str]) -> tuple[str, int | None]:
    for id_name, length_name in (("cdnmidimgurl", "length"), ("cdnbigimgurl", "hdlength")):
        file_id = attributes.get(id_name, "")
        if _FILE_ID.fullmatch(file_id) and len(file_id) <= MAX_FILE_ID_LENGTH:
            return file_id.lower(), _size(attributes.get(length_name, ""), MAX_INT64)
    msg = "The XML has no usable file id (cdnmidimgurl, hex); such an image cannot be forwarded."
    raise InvalidXml(msg)


def _first_size(attributes: dict[str, str], *names: str) -> int | None:
    sizes = (_size(attributes.get(name, ""), MAX_SIDE) for name in names)
    return next((size for size in sizes if size is not None), None)


def _size(text: str, maximum: int) -> int | None:
    size = int(text) if _SIZE.fullmatch(text) else 0
    return size if 0 < size <= maximum else None
