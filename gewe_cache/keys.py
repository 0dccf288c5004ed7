"""What leads to an entry: keys and scopes.

A key is the SHA-256 over length-prefixed parts (the scheme's version, the kind, the scope, the value), so
that no two different images or scopes can share one. Values are a normalised URL or an md5; the user's md5
and GeWe's md5 share one kind, because either leads to the same image.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, unquote_plus, urlsplit

if TYPE_CHECKING:
    from gewe_cache.image import Image

KeyKind = Literal["url", "md5"]

_SCHEME_VERSION = "1"
_SCOPE_DIGITS = 24
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE_OR_UNSAFE = re.compile(r"%[0-9A-Fa-f]{2}|[^!#$&'()*+,\-./:;=?@\[\]_~0-9A-Za-z]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, slots=True)
class Key:
    """One way to find an entry: ``digest`` is what the database looks up, the rest is for people."""

    kind: KeyKind
    scope: str
    value: str
    digest: bytes

    @classmethod
    def of(cls, kind: KeyKind, scope: str, value: str) -> Key:
        """Make the key of a normalised URL or a lower-case md5 in a scope."""
        return cls(kind, scope, value, _digest(_SCHEME_VERSION, kind, scope, value))


def lookup_key(image: Image, scope: str, ignore_query: frozenset[str]) -> Key:
    """Give the one key by which an image is found: its md5 where it has one, else its URL."""
    if image.md5 is not None:
        return _key_of_md5(scope, image.md5)
    return _key_of_url(scope, image.url or "", ignore_query)


def keys_of(image: Image, gewe_md5: str | None, scope: str, ignore_query: frozenset[str]) -> tuple[Key, ...]:
    """Give every key known after an upload: the URL, the user's md5 and GeWe's md5."""
    keys = {Key.of("md5", scope, md5) for md5 in (image.md5, gewe_md5) if md5 is not None}
    if image.url is not None:
        keys.add(Key.of("url", scope, normalise_url(image.url, ignore_query)))
    return tuple(sorted(keys, key=lambda key: key.digest))


def default_scope(base_url: str, token: str) -> str:
    """Give the scope of a token at a host: a truncated SHA-256, from which the token cannot be read."""
    return _digest(_SCHEME_VERSION, "scope", host_of(base_url), token).hex()[:_SCOPE_DIGITS]


def host_of(base_url: str) -> str:
    """Give the host of a base URL, with its port unless it is the scheme's own."""
    return _host_and_port(urlsplit(base_url))


def normalise_url(url: str, ignore_query: frozenset[str] = frozenset()) -> str:
    """Give a URL in the form that equal addresses share.

    Scheme and host are lower-cased, a default port and the fragment are dropped, percent-encoding is made
    uniform (RFC 3986, 6.2.2), where a lone ``%`` counts as ``%25``. The query keeps its order, less the
    parameters named in ``ignore_query``.
    """
    parts = urlsplit(url)
    path = _uniform_escapes(parts.path) or "/"
    query = _uniform_query(parts.query, ignore_query) if parts.query else ""
    return f"{parts.scheme}://{_host_and_port(parts)}{path}{'?' if query else ''}{query}"


# Remembered by text, not by Image: that may hold the bytes of a picture.
@lru_cache(maxsize=4096)
def _key_of_md5(scope: str, md5: str) -> Key:
    return Key.of("md5", scope, md5)


@lru_cache(maxsize=4096)
def _key_of_url(scope: str, url: str, ignore_query: frozenset[str]) -> Key:
    return Key.of("url", scope, normalise_url(url, ignore_query))


def _host_and_port(parts: SplitResult) -> str:
    host, port = parts.hostname or "", parts.port
    bracketed = f"[{host}]" if ":" in host else host
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return bracketed
    return f"{bracketed}:{port}"


def _uniform_query(query: str, ignore_query: frozenset[str]) -> str:
    return "&".join(
        _uniform_escapes(pair) for pair in query.split("&") if unquote_plus(pair.split("=", 1)[0]) not in ignore_query
    )


def _uniform_escapes(text: str) -> str:
    return _ESCAPE_OR_UNSAFE.sub(_uniform_escape, text)


def _uniform_escape(match: re.Match[str]) -> str:
    found = match.group()
    if len(found) == 1:
        return "".join(f"%{byte:02X}" for byte in found.encode("utf-8"))
    character = chr(int(found[1:], 16))
    return character if character in _UNRESERVED else found.upper()


def _digest(*parts: str) -> bytes:
    sha256 = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8")
        sha256.update(len(encoded).to_bytes(8, "big"))
        sha256.update(encoded)
    return sha256.digest()
