"""Reading the XML of a forward as GeWe documents it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

_TEXTS: Final = ("aeskey", "cdnthumbaeskey", "cdnthumburl", "cdnmidimgurl", "md5", "encryver")
_NUMBERS: Final = (
    "cdnthumblength",
    "cdnthumbheight",
    "cdnthumbwidth",
    "cdnmidheight",
    "cdnmidwidth",
    "cdnhdheight",
    "cdnhdwidth",
    "length",
)
_MAX_DIGITS: Final = 18  # of a 64-bit integer
_THUMBNAIL_SIDES: Final = range(1, 1001)


class XmlRefusedError(Exception):
    """The XML is not one that can be forwarded; its text says why."""


@dataclass(frozen=True, slots=True)
class ForwardedImage:
    """What a forward's XML says: `length` in bytes (0: unknown), `md5` in hex ("": unknown)."""

    aes_key: str = field(repr=False)
    file_id: str
    length: int
    md5: str


def read_forwarded_image(xml: str) -> ForwardedImage:
    """Parse the XML of a forward and check that it agrees with itself.

    Raises:
        XmlRefusedError: it is not well-formed, not an image message, or contradicts itself.
    """
    image = _attributes(xml)
    missing = [name for name in (*_TEXTS, *_NUMBERS) if name not in image]
    if missing:
        raise XmlRefusedError("xml缺少属性: " + ",".join(missing))
    wrong = [name for name in _NUMBERS if not (image[name].isascii() and image[name].isdigit())]
    if wrong:
        raise XmlRefusedError("xml属性不是数字: " + ",".join(wrong))
    if image["aeskey"] != image["cdnthumbaeskey"]:
        msg = "aeskey与cdnthumbaeskey不一致"
        raise XmlRefusedError(msg)
    if image["cdnmidimgurl"] != image["cdnthumburl"]:
        msg = "cdnmidimgurl与cdnthumburl不一致"
        raise XmlRefusedError(msg)
    for name in ("cdnthumbheight", "cdnthumbwidth"):
        if _number(image[name]) not in _THUMBNAIL_SIDES:
            msg = f"{name}超出范围"
            raise XmlRefusedError(msg)
    return ForwardedImage(image["aeskey"], image["cdnmidimgurl"], _number(image["length"]), image["md5"])


def _attributes(xml: str) -> dict[str, str]:
    try:
        root = fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        msg = "xml格式错误"
        raise XmlRefusedError(msg) from error
    if root.tag != "msg":
        msg = "xml根节点不是msg"
        raise XmlRefusedError(msg)
    image = root.find("img")
    if image is None:
        msg = "xml缺少img节点"
        raise XmlRefusedError(msg)
    return dict(image.attrib)


def _number(digits: str) -> int:
    """Return the number; one that is too long to be a size becomes -1, which fits nothing."""
    return int(digits) if len(digits) <= _MAX_DIGITS else -1
