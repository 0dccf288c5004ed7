"""What the proxy answers by itself. Every answer is GeWe's JSON: ``ret``, ``msg`` and, where there is some, ``data``.

502, 503 and 504 are sent again by much of the world's middleware. So 503 is used where nothing was sent, and a
send that may have arrived is answered with HTTP 200 and ``ret`` 504.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gewe_cache.gewe.post_image import accepted_answer, encode_answer, refused_answer, refused_status

if TYPE_CHECKING:
    from gewe_cache.errors import GeweRefused
    from gewe_cache.image import SentImage

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, ready to go out; ``cache`` is the value of its ``X-Gewe-Cache``."""

    status: int
    body: bytes = field(repr=False)
    cache: str = ""
    closes: bool = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give its headers."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        if self.cache:
            headers.append((b"x-gewe-cache", self.cache.encode("ascii")))
        if self.closes:
            headers.append((b"connection", b"close"))
        return headers


def accepted(sent: SentImage) -> Answer:
    """Answer in ``postImage``'s shape, whichever route was taken."""
    return Answer(200, encode_answer(accepted_answer(sent)), "fell-back" if sent.fell_back else sent.route)


def refused(error: GeweRefused) -> Answer:
    """Answer as GeWe did, byte for byte where its answer was JSON and our own call's.

    Without JSON its HTTP status is all that it said; a redirect's goes out in ``ret`` alone, as nobody is to
    follow it. A refusal learnt from another process has its secrets masked.
    """
    reply = error.reply
    body = reply.body if reply is not None and reply.body is not None else encode_answer(refused_answer(error))
    return Answer(refused_status(error), body, error.route or "")


def unreached(why: str, cache: str = "") -> Answer:
    """Say that nothing was sent, so that it may be sent again."""
    return Answer(503, encode_answer({"ret": 503, "msg": why}), cache)


def unknown(why: str, cache: str = "") -> Answer:
    """Say that a message may have been sent, in a way that no middleware sends again."""
    return Answer(200, encode_answer({"ret": 504, "msg": why}), cache)


def no_answer(method: str, why: str, cache: str = "") -> Answer:
    """Say that a request passed on came to no answer; one that changes nothing may well be sent again."""
    if method in _SAFE_METHODS:
        return Answer(504, encode_answer({"ret": 504, "msg": why}), cache)
    return unknown(why, cache)


def bad_request(status: int, why: str, *, closes: bool = True) -> Answer:
    """Turn a request away; nothing was sent."""
    return Answer(status, encode_answer({"ret": status, "msg": f"{why} Nothing was sent."}), closes=closes)
