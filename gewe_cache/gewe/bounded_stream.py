"""Streams of httpcore whose reads all end by one moment.

httpcore gives each single read its seconds anew: an answer whose head drips in byte by byte would never end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable


@dataclass(slots=True)
class Deadline:
    """The end of a connection's call under way, in seconds of ``time.monotonic()``."""

    at: float

    def seconds_left(self) -> float:
        """Give the seconds until then.

        Raises:
            httpcore.ReadTimeout: there are none.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            msg = "the call has had its time"
            raise httpcore.ReadTimeout(msg)
        return left


class BoundedStream(httpcore.NetworkStream):
    """A stream that reads until a deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        """Read from ``stream``."""
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline ends it
        """Read what has come."""
        return self._stream.read(max_bytes, self._deadline.seconds_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Give the stream within TLS."""
        return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        """Give what the stream knows."""
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """Connects by streams that read until a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        """Share ``deadline`` with whoever sets it."""
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        stream = super().connect_tcp(host, port, timeout, local_address, socket_options)
        return BoundedStream(stream, self._deadline)
