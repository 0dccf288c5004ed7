"""GeWe's download of an image, over real HTTP."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from typing import Final

import httpx

MAX_IMAGE_BYTES: Final = 30_000_000
_AT_ONCE: Final = 20
_CHUNK: Final = 65_536
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_JAVA_KNOWS: Final = frozenset({"http", "https", "ftp", "file", "jar"})


class MalformedUrlError(Exception):
    """Java cannot make a URL of the text; the text of the error is Java's."""


class UnfetchableError(Exception):
    """The image cannot be downloaded."""


def check_url(url: str) -> None:
    """Judge a URL as `java.net.URL` does.

    Raises:
        MalformedUrlError: it has no protocol, or one that Java does not know.
    """
    scheme = _SCHEME.match(url.strip())
    if scheme is None:
        msg = f"java.net.MalformedURLException: no protocol: {url}"
        raise MalformedUrlError(msg)
    if scheme[1].lower() not in _JAVA_KNOWS:
        msg = f"java.net.MalformedURLException: unknown protocol: {scheme[1]}"
        raise MalformedUrlError(msg)


@functools.cache
def _tls() -> ssl.SSLContext:
    # Loading the certificates takes longer than starting a sandbox: once per process is enough.
    return httpx.create_ssl_context(trust_env=False)


class Downloader:
    """Downloads images, a few at a time. Belongs to the event loop it is first used on."""

    def __init__(self, timeout: float) -> None:
        """Give up on a download after `timeout` seconds in total."""
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """Download `url`.

        Raises:
            UnfetchableError: no answer, another status than 200, too slow, or more than 30 MB.
        """
        try:
            # httpx's pool grows slow where many wait in it: they wait here instead.
            async with self._turns, asyncio.timeout(self._timeout):
                return await self._fetch(url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            raise UnfetchableError(str(error)) from error

    async def _fetch(self, url: str) -> bytes:
        content = bytearray()
        async with self._opened().stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                msg = f"HTTP {response.status_code}"
                raise UnfetchableError(msg)
            async for chunk in response.aiter_bytes(_CHUNK):
                content += chunk
                if len(content) > MAX_IMAGE_BYTES:
                    msg = f"more than {MAX_IMAGE_BYTES} bytes"
                    raise UnfetchableError(msg)
        return bytes(content)

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=_tls(),
                timeout=self._timeout,
                follow_redirects=True,
                max_redirects=5,
                trust_env=False,
            )
        return self._client

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        self._turns = asyncio.Semaphore(_AT_ONCE)
        if client is not None:
            await client.aclose()
