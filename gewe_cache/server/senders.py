"""One sender for each token that is in use, all on one database and one set of connections to GeWe."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gewe_cache.errors import GeweUnreachable
from gewe_cache.sending.async_sender import AsyncImageSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gewe_cache.sending.publishing import AsyncPublisher
    from gewe_cache.sending.shared import Shared
    from gewe_cache.server.reading import Account
    from gewe_cache.server.settings import ServerSettings
    from gewe_cache.settings import Tuning


@dataclass(slots=True)
class _Held:
    sender: AsyncImageSender
    borrowers: int = 0
    last_used: float = field(default_factory=time.monotonic)


class Senders:
    """Senders by account. Belongs to one event loop."""

    def __init__(
        self, settings: ServerSettings, shared: Shared, publish: AsyncPublisher, tuning: Tuning | None = None
    ) -> None:
        """Make none yet; ``publish`` is that of all."""
        self._settings = settings
        self._publish = publish
        self._shared = shared
        self._tuning = tuning
        self._held: OrderedDict[Account, _Held] = OrderedDict()  # the one used last comes last
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def borrow(self, account: Account) -> AsyncIterator[AsyncImageSender]:
        """Lend the sender of an account; while it is lent it is not closed.

        Raises:
            GeweUnreachable: too many are in use.
        """
        held = self._held.get(account)
        if held is None:
            self._make_room()
            held = self._held[account] = _Held(self._make(account))
        held.borrowers += 1
        try:
            yield held.sender
        finally:
            held.borrowers -= 1
            held.last_used = time.monotonic()
            self._held.move_to_end(account)

    async def aclose(self) -> None:
        """Close every sender: the calls that are out are waited for."""
        while self._held:
            self._close(next(iter(self._held)))
        while self._closing:
            await asyncio.wait(self._closing)

    def _make(self, account: Account) -> AsyncImageSender:
        settings = self._settings
        return AsyncImageSender(
            account.token,
            base_url=account.base_url,
            token_header=account.token_header,
            scope=settings.scope,
            ttl=settings.ttl,
            timeout=settings.timeout,
            ignore_query=settings.ignore_query,
            publish=self._publish,
            _tuning=self._tuning,
            _shared=self._shared,
        )

    def _make_room(self) -> None:
        """Close those that nobody has used for long, and one more where there are still too many."""
        limits, now = self._settings.limits, time.monotonic()
        idle = [account for account, held in self._held.items() if not held.borrowers]
        for number, account in enumerate(idle):
            is_full = len(self._held) >= limits.senders
            is_old = now - self._held[account].last_used >= limits.sender_seconds
            if not is_old and not (is_full and number == 0):
                break
            self._close(account)
        if len(self._held) >= limits.senders:
            msg = f"{limits.senders} tokens are sending at once. Nothing was sent. Send again later."
            raise GeweUnreachable(msg)

    def _close(self, account: Account) -> None:
        task = asyncio.get_running_loop().create_task(self._held.pop(account).sender.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
