"""Text from outside, made fit for a log line, an error, a terminal or a database."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

MASK = "***"
_SIZE_STEP = 1000
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_AGE_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_TWO_DIGITS_BELOW = 10
_COARSE_FROM = 10
_FINE_UP_TO = 100
_ESCAPES_BEYOND_ASCII = re.compile(r"(?:%[89A-Fa-f][0-9A-Fa-f])+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def one_line(value: object, limit: int = 300) -> str:
    """Give ``value`` as one printable line of at most ``limit`` characters; None gives ``""``."""
    if value is None:
        return ""
    text = _UNPRINTABLE.sub(" ", str(value)[: 4 * limit]).strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def without_unseen(text: str) -> str:
    """Give text in which what cannot be seen, or turns what is seen around, is shown to be there."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def mask_key(aes_key: str) -> str:
    """Give an ``aes_key`` as a person may see it: enough to tell two apart, too little to use."""
    return f"{aes_key[:4]}…"


def without_query(url: str | None) -> str:
    """Give a URL without its query, which may carry a signature."""
    if url is None:
        return "(no URL)"
    parts = urlsplit(url)
    return one_line(f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}")


def readable_url(url: str) -> str:
    """Give a URL with its escaped letters beyond ASCII as they are read; as a URL it is the same."""
    return _ESCAPES_BEYOND_ASCII.sub(_readable, url)


def redact(value: Any, secrets: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON
    """Give a copy of a JSON value in which every occurrence of a secret, in either case, is masked."""
    if isinstance(value, str):
        for secret in secrets:
            value = re.sub(re.escape(secret), MASK, value, flags=re.IGNORECASE)
        return value
    if isinstance(value, list):
        return [redact(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(key, secrets): redact(item, secrets) for key, item in value.items()}
    return value


def human_size(size: float | None) -> str:
    """Give a number of bytes as a person reads it: ``312 kB``."""
    if size is None:
        return "-"
    scaled, unit = float(size), 0
    while abs(scaled) >= _SIZE_STEP - 0.5 and unit < len(_SIZE_UNITS) - 1:
        scaled, unit = scaled / _SIZE_STEP, unit + 1
    digits = 1 if unit > 0 and scaled < _TWO_DIGITS_BELOW else 0
    return f"{scaled:.{digits}f} {_SIZE_UNITS[unit]}"


def human_age(age: timedelta | float | None, *, coarse: bool = False) -> str:
    """Give a duration by its two largest units, ``2d 5h``; a coarse one by the first alone from 10 on, ``13m``."""
    if age is None:
        return "-"
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    sign, left = ("-" if seconds <= -1 else ""), int(abs(seconds))
    for place, (length, _) in enumerate(_AGE_UNITS):
        if left >= length:
            return sign + _two_units(left, place, one_unit_from=_COARSE_FROM if coarse else _FINE_UP_TO)
    return "0s"


def _readable(escapes: re.Match[str]) -> str:
    try:
        letters = bytes.fromhex(escapes.group().replace("%", "")).decode("utf-8")
    except UnicodeDecodeError:
        return escapes.group()
    return letters if letters.isprintable() else escapes.group()


def _two_units(seconds: int, place: int, one_unit_from: int) -> str:
    length, unit = _AGE_UNITS[place]
    whole, rest = divmod(seconds, length)
    if place + 1 == len(_AGE_UNITS) or whole >= one_unit_from:
        return f"{whole}{unit}"
    next_length, next_unit = _AGE_UNITS[place + 1]
    return f"{whole}{unit} {rest // next_length}{next_unit}" if rest >= next_length else f"{whole}{unit}"
