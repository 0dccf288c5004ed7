"""What the proxy is told: whom it stands before, how it sends, and how much it bears."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from gewe_cache.settings import check_base_url, make_settings

TOKEN_HEADERS = ("X-GEWE-TOKEN", "VideosApi-token", "X-finder-TOKEN")

_SHORTEST_PASSWORD = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the proxy bears of its clients.

    Attributes:
        connections: clients connected at once; the next are turned away.
        body_bytes: the longest request body that is taken.
        client_seconds: how long a client may take for a request's head, for its body, and to read each piece
            of an answer.
        senders: tokens in use at once.
        sender_seconds: how long a token's sender is kept that nobody uses.
        grace_seconds: how long the end waits for requests under way; an upload may take 120 s.
        files, file_bytes: images hosted at once; of the bytes, those that are being handed in count too.
        file_seconds: how long an image is hosted that is not sent.
    """

    connections: int = 500
    body_bytes: int = 10_000_000
    client_seconds: float = 20.0
    senders: int = 1000
    sender_seconds: float = 600.0
    grace_seconds: float = 150.0
    files: int = 100
    file_bytes: int = 200_000_000
    file_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The proxy's settings; what is None comes from the environment, then from a sender's defaults.

    Attributes:
        upstream: GeWe's origin, checked by ``check_origin``.
        pass_timeout: seconds that a request passed on may wait for its answer.
        public_url: by which GeWe's server reaches this one; None where no images are hosted.
        admin_password: of the operator's page; without one there is no page.
        admin_hosts: names by which the page is asked for, besides addresses and localhost, when it is reached
            through loopback.

    Raises:
        ValueError: naming the argument.
    """

    upstream: str
    database: str | None = field(default=None, repr=False)
    scope: str | None = None
    ttl: timedelta | None = None
    timeout: float | None = None
    ignore_query: frozenset[str] = frozenset()
    token_headers: tuple[str, ...] = TOKEN_HEADERS
    pass_timeout: float = 120.0
    public_url: str | None = None
    limits: Limits = Limits()
    admin_password: str | None = field(default=None, repr=False)
    admin_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check now what each token's sender would refuse later."""
        if self.public_url is not None:
            object.__setattr__(self, "public_url", _check_public_url(self.public_url))
        if self.admin_password is not None and len(self.admin_password) < _SHORTEST_PASSWORD:
            msg = (
                f"admin_password (GEWE_CACHE_ADMIN_PASSWORD, --admin-password-file): pass at least "
                f"{_SHORTEST_PASSWORD} characters."
            )
            raise ValueError(msg)
        for token_header in self.token_headers:
            make_settings(
                "not-a-token",
                None,
                base_url=self.upstream,
                token_header=token_header,
                database=self.database,
                scope=self.scope,
                ttl=self.ttl,
                timeout=self.timeout,
                ignore_query=self.ignore_query,
                tuning=None,
            )


def _check_public_url(public_url: str) -> str:
    try:
        return check_base_url(public_url)
    except ValueError:
        msg = "--public-url: pass the address by which GeWe's server reaches this one, such as https://bot.example.com"
        raise ValueError(msg) from None
