"""Which requests a sender can send in a client's place, and what they ask for. No I/O.

Only a request of which nothing would be lost is taken: all else is passed on as it is, and GeWe says itself
what it thinks of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gewe_cache.image import Image
from gewe_cache.settings import check_name, check_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gewe_cache.gewe.pass_through import Headers

MAX_CALL_BYTES = 64_000
CACHE_HEADER = b"x-gewe-cache"

Wish = Literal["", "bypass", "refresh"]

_CALL = re.compile(rb"((?:/[A-Za-z0-9_~.-]+)*)/message/postImage")
_DOTS = re.compile(rb"/\.\.?(?:/|\Z)")
_JSON = re.compile(rb"application/json\s*(?:;\s*charset\s*=\s*\"?utf-?8\"?\s*)?", re.IGNORECASE)
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS = frozenset({b"host", b"expect", b"content-length", CACHE_HEADER})


@dataclass(frozen=True, slots=True)
class Account:
    """Whose call it is: where it goes, and the token with the header that carried it."""

    base_url: str
    token_header: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PostImage:
    """A ``postImage`` call of which nothing is lost when a sender sends it."""

    app_id: str
    to_wxid: str
    image: Image


def find_base_path(method: str, target: bytes) -> bytes | None:
    """Give what stands before ``/message/postImage``, or None where a request is not that call."""
    match = _CALL.fullmatch(target)
    if method != "POST" or match is None or _DOTS.search(match[1]):
        return None
    return match[1]


def read_wish(headers: Headers) -> Wish | None:
    """Read what the client wants of the cache; None stands for a wish that is not understood."""
    wishes = [value.strip().lower() for name, value in headers if name == CACHE_HEADER]
    match wishes:
        case []:
            return ""
        case [b"bypass"]:
            return "bypass"
        case [b"refresh"]:
            return "refresh"
    return None


def find_account(base_url: str, headers: Headers, token_headers: Sequence[str]) -> Account | None:
    """Find the one token of a request; None where there is none, or more than a sender would send."""
    named = {name.lower().encode("ascii"): name for name in token_headers}
    tokens = [(named[name], value) for name, value in headers if name in named]
    if len(tokens) != 1 or any(name == b"authorization" for name, _ in headers):
        return None
    name, value = tokens[0]
    try:
        return Account(base_url, name, check_token(value.decode("ascii").strip()))
    except ValueError:
        return None


def read_post_image(headers: Headers, body: bytes) -> PostImage | None:
    """Read a call's body; None where it is not exactly a call that a sender can make."""
    kinds = [value for name, value in headers if name == b"content-type"]
    is_encoded = any(name == b"content-encoding" for name, _ in headers)
    if len(kinds) != 1 or is_encoded or not _JSON.fullmatch(kinds[0].strip()):
        return None
    fields = _read_object(body)
    if fields is None:
        return None
    if "imageUrl" in fields and "imgUrl" not in fields:  # as opengewe spells it
        fields["imgUrl"] = fields.pop("imageUrl")
    if fields.keys() != {"appId", "toWxid", "imgUrl"}:
        return None
    try:
        image = Image(url=fields["imgUrl"])
        return PostImage(check_name("appId", fields["appId"]), check_name("toWxid", fields["toWxid"]), image)
    except ValueError:  # GeWe is to say itself what it thinks of these
        return None


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Give the headers that concern both ends, without those of this connection alone."""
    listed = b",".join(value for name, value in headers if name.lower() == b"connection")
    named = {name.strip().lower() for name in listed.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP | named]


def headers_to_pass(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Give the headers of a request as they are passed on, its framing included."""
    passed = [(name, value) for name, value in end_to_end(headers) if name not in _OURS]
    if is_chunked(headers):
        return [*passed, (b"transfer-encoding", b"chunked")]
    lengths = [(name, value) for name, value in headers if name == b"content-length"]
    return [*passed, *lengths[:1]]


def is_chunked(headers: Headers) -> bool:
    """Tell whether a request's body comes in chunks."""
    return any(name == b"transfer-encoding" for name, _ in headers)


def _read_object(body: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        msg = "a field is there twice"
        raise ValueError(msg)
    return fields
