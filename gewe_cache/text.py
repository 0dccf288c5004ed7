"""Text from outside, made fit for a log line, an error, a terminal or a database."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

MASK = "***"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def one_line(value: object, limit: int = 300) -> str:
    """Give ``value`` as one printable line of at most ``limit`` characters; None gives ``""``."""
    if value is None:
        return ""
    text = _UNPRINTABLE.sub(" ", str(value)[: 4 * limit]).strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def mask_key(aes_key: str) -> str:
    """Give an ``aes_key`` as a person may see it: enough to tell two apart, too little to use."""
    return f"{aes_key[:4]}…"


def without_query(url: str | None) -> str:
    """Give a URL without its query, which may carry a signature."""
    if url is None:
        return "(no URL)"
    parts = urlsplit(url)
    return one_line(f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}")


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
