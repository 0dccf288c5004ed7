"""Handing an image in, and GeWe's fetching of it. Both need no session: a token's header the one, a URL the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gewe_cache.local_image import EXTENSIONS, sniff
from gewe_cache.sending.server_client import FILES_PATH
from gewe_cache.server import answers
from gewe_cache.server.answers import Answer
from gewe_cache.server.files import NoRoomError
from gewe_cache.server.reading import find_account

if TYPE_CHECKING:
    from gewe_cache.gewe.pass_through import Headers
    from gewe_cache.server.exchange import Exchange
    from gewe_cache.server.files import Files, HostedImage
    from gewe_cache.server.settings import ServerSettings

_PATH = FILES_PATH.encode("ascii")
_NO_PUBLIC_URL = (
    "This server hosts no files: GeWe would not find them. Start it with gewe-cache serve --public-url URL, the "
    "address by which GeWe's server reaches it."
)
_NO_IMAGE = (
    "The body is no PNG, JPEG, GIF, WebP or BMP. Post the image's bytes as they are, neither encoded nor in a form."
)
_NO_ROOM = "Too many files wait here to be sent. Post it again later."


_CHUNK = 65_536


def is_of_files(path: str) -> bool:
    """Tell whether a path is served here."""
    return path == FILES_PATH or path.startswith(f"{FILES_PATH}/")


class FileCalls:
    """Serves what is below ``/_gewe-cache/files``."""

    def __init__(self, settings: ServerSettings, files: Files) -> None:
        """Put the parts together."""
        self._settings = settings
        self._files = files

    async def serve(self, exchange: Exchange) -> None:
        """Take an image, or give one.

        Raises:
            BodyTooLongError, BodyTooSlowError, ClientLeftError: nothing is kept.
        """
        exchange.noted.path = FILES_PATH
        if exchange.target.partition(b"?")[0] == _PATH:
            await exchange.answer(await self._take(exchange))
            return
        exchange.noted.path = f"{FILES_PATH}/***"  # the rest is all that it takes to fetch the image
        await self._give(exchange)

    async def _take(self, exchange: Exchange) -> Answer:
        if exchange.method != "POST":
            return answers.bad_request(405, "POST an image here.")
        if find_account(self._settings.upstream, exchange.headers, self._settings.token_headers) is None:
            names = ", ".join(self._settings.token_headers)
            return answers.bad_request(401, f"Pass the account's token, in one of these headers: {names}.")
        if self._files.public_url is None:
            return answers.bad_request(409, _NO_PUBLIC_URL)
        try:
            content = await self._read(exchange)
            if not _is_image(exchange.headers, content):
                return answers.bad_request(415, _NO_IMAGE)
            hosted = self._files.host(content)
        except NoRoomError:
            return answers.bad_request(503, _NO_ROOM)
        exchange.noted.more.update(file_md5=hosted.md5)
        return Answer(201, json.dumps(self._told(hosted)).encode("ascii"))

    async def _read(self, exchange: Exchange) -> bytes:
        content = bytearray()
        try:
            async for chunk in exchange.chunks():
                self._files.take_room(len(chunk))
                content += chunk
        finally:
            self._files.give_room_back(len(content))
        return bytes(content)

    def _told(self, hosted: HostedImage) -> dict[str, object]:
        return {
            "url": hosted.url,
            "md5": hosted.md5,
            "content_type": hosted.content_type,
            "size": hosted.size,
            "expires_in": round(self._settings.limits.file_seconds),
        }

    async def _give(self, exchange: Exchange) -> None:
        if exchange.method not in {"GET", "HEAD"}:
            await exchange.answer(answers.bad_request(405, "GET a file here."))
            return
        name = exchange.target.removeprefix(_PATH + b"/").decode("latin-1")
        hosted = self._files.get(name)
        if hosted is None:
            await exchange.answer(answers.bad_request(404, "There is no such file here, or no longer."))
            return
        await exchange.start(200, _headers_of(hosted))
        content = hosted.read() if exchange.method == "GET" else b""
        for start in range(0, len(content), _CHUNK):
            await exchange.write(content[start : start + _CHUNK])
        await exchange.write(b"", is_last=True)


def _is_image(headers: Headers, content: bytes) -> bool:
    is_encoded = any(name == b"content-encoding" for name, _ in headers)
    return not is_encoded and sniff(content) in EXTENSIONS


def _headers_of(hosted: HostedImage) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", hosted.content_type.encode("ascii")),
        (b"content-length", b"%d" % hosted.size),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
